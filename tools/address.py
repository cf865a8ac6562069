"""The address of the repository, read from pyproject.toml, and every link and install line made from it."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

BRANCH = "main"
_PLACE = re.compile(r"\{\{ (repository|install|colab|binder) \}\}")


@dataclass(frozen=True)
class Address:
    """Where the project is published: `package` is its name for pip, `owner` and `name` are those on GitHub."""

    package: str
    owner: str
    name: str

    @classmethod
    def of(cls, root: Path) -> "Address":
        """The address in `root`/pyproject.toml. Raises ValueError where it is not https://github.com/owner/name."""
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        url = project["urls"]["Repository"]
        found = re.fullmatch(r"https://github\.com/([\w.-]+)/([\w.-]+?)(?:\.git)?/?", url)
        if found is None:
            raise ValueError(
                f"pyproject.toml: Repository is {url!r}; Colab and Binder links can be made only "
                "from an address of the form https://github.com/owner/name"
            )
        return cls(project["name"], *found.groups())

    @property
    def repository(self) -> str:
        return f"https://github.com/{self.owner}/{self.name}"

    @property
    def install(self) -> str:
        """What stands after `pip install`."""
        return f"{self.package} @ git+{self.repository}"

    def colab(self, path: str) -> str:
        """A link that opens the notebook at `path` (from the root, with /) in Colab."""
        return f"https://colab.research.google.com/github/{self.owner}/{self.name}/blob/{BRANCH}/{path}"

    def binder(self, path: str) -> str:
        """A link that opens the notebook at `path` (from the root, with /) in JupyterLab on Binder."""
        return f"https://mybinder.org/v2/gh/{self.owner}/{self.name}/{BRANCH}?urlpath=lab/tree/{path}"

    def fill(self, text: str, path: str) -> str:
        """`text` with {{ repository }}, {{ install }}, {{ colab }} and {{ binder }} filled in for that notebook."""
        values = {
            "repository": self.repository,
            "install": self.install,
            "colab": self.colab(path),
            "binder": self.binder(path),
        }
        return _PLACE.sub(lambda place: values[place.group(1)], text)
