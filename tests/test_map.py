"""docs/map.md: every room and every file at the top is on it, and what it names is there; README names every page."""

import re


def test_the_map_shows_every_room_and_nothing_that_is_gone(repository):
    text = (repository / "docs" / "map.md").read_text()
    linked = {(repository / "docs" / target).resolve() for target in re.findall(r"\]\(([^)]+)\)", text)}
    assert [path for path in linked if not path.exists()] == []
    package = repository / "mubench_ray"
    rooms = {path for path in package.iterdir() if (path / "__init__.py").is_file() or path.suffix == ".py"}
    rooms -= {package / "__init__.py", package / "__main__.py"}
    assert sorted(rooms - linked) == []
    named = re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py|[a-z_]+\.py)`", text)
    assert [name for name in named if not (package / name).is_file()] == []


def test_every_page_is_linked_from_the_readme(repository):
    readme = (repository / "README.md").read_text()
    assert [page.name for page in sorted((repository / "docs").glob("*.md")) if f"docs/{page.name}" not in readme] == []
    gone = [target for target in re.findall(r"\]\(([^)#:]+)\)", readme) if not (repository / target).exists()]
    assert gone == []
