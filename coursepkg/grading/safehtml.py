"""Students' text on pages that an instructor opens: formatting stays, scripts do not.

nbgrader's templates put what Markdown renders into the page as it is, in formgrader beside the instructor's session.
nbgrader_config.py puts these filters in the place of nbconvert's of the same names.
"""

from typing import Any

import bleach
from jinja2 import pass_context
from jinja2.runtime import Context
from nbconvert.exporters import HTMLExporter

TAGS = frozenset(
    "a abbr b blockquote br caption code col colgroup dd del details div dl dt em figcaption figure h1 h2 h3 h4 h5 h6 "
    "hr i img kbd li mark ol p pre s samp small span strong sub summary sup table tbody td tfoot th thead tr tt u ul "
    "var".split()
)
ATTRIBUTES = {
    "*": ["class", "id", "title"],
    "a": lambda _, name, value: name == "href" and not value.strip().lower().startswith("data:"),
    "img": ["src", "alt", "width", "height"],
    "td": ["colspan", "rowspan", "align"],
    "th": ["colspan", "rowspan", "align", "scope"],
    "ol": ["start"],
}
PROTOCOLS = ("http", "https", "mailto", "data")  # data: a picture that was attached to a cell


def clean_html(source: Any) -> str:
    """HTML without what could run or change the page around it; other tags are shown as text."""
    text = source.decode("utf-8", "replace") if isinstance(source, bytes) else str(source)
    return bleach.clean(text, TAGS, ATTRIBUTES, PROTOCOLS)


@pass_context
def markdown2html(context: Context, source: Any) -> str:
    """What Markdown renders, cleaned."""
    return clean_html(HTMLExporter().markdown2html(context, source))
