"""Taking a submission in: what lies in its folder, read without trust, and its answers on the release's skeleton."""
