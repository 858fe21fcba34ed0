"""The pages as a site: links, navigation, nothing from other hosts."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tour_blocks import pages

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
PLUGINS = ("mkdocs", "material", "mkdocstrings", "mkdocs_jupyter", "griffe")


@pytest.mark.parametrize("page", pages(REPOSITORY))
def test_links_of_the_repository_lead_somewhere(page: str) -> None:
    text = re.sub(r"^```.*?^```", "", (REPOSITORY / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:|#", target):
            path = (REPOSITORY / page).parent / target.split("#")[0]
            assert path.exists(), f"{page}: {target}"


def test_every_page_is_in_the_navigation() -> None:
    yaml = pytest.importorskip("yaml", reason="mkdocs.yml is read by pyyaml")
    config = yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text())

    def listed(entry: Any) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        return [name for part in (entry.values() if isinstance(entry, dict) else entry) for name in listed(part)]

    found = listed(config["nav"])
    assert len(found) == len(set(found))
    have = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*") if path.suffix in (".md", ".ipynb")}
    assert set(found) == have - {config["not_in_nav"].strip()}
    assert config["strict"] is True
    assert config["theme"]["font"] is False


def rewritten(text: str, page: str = "how-to/sam.md", repository: str | None = None) -> str:
    pytest.importorskip("mkdocs", reason="the site needs mkdocs-material")
    hook = runpy.run_path(str(DOCS / "hooks" / "links.py"))["on_page_markdown"]
    page_like = SimpleNamespace(file=SimpleNamespace(src_uri=page))
    made: str = hook(text, page=page_like, config={"docs_dir": str(DOCS), "repo_url": repository})
    return made


def test_links_out_of_the_docs() -> None:
    within = "See [the server](../server.md#settings), ![a](../images/x.png), `[a](../../b)`."
    assert rewritten(within) == within
    source = "[rle.py](../../patcher/maskmend/patcher/rle.py)"
    assert rewritten(source) == '<span title="in the repository: patcher/maskmend/patcher/rle.py">rle.py</span>'
    assert rewritten(source, repository="https://forge.example/m/") == (
        "[rle.py](https://forge.example/m/blob/HEAD/patcher/maskmend/patcher/rle.py)"
    )
    assert "/tree/HEAD/models" in rewritten("[models](../models)", "page.md", "https://forge.example/m")
    fenced = f"```text\n{source}\n```\n"
    assert rewritten(fenced) == fenced


@pytest.mark.parametrize("target", ["../../patcher/nothing.py", "../../../elsewhere"])
def test_links_to_nowhere_end_the_build(target: str) -> None:
    with pytest.raises(Exception, match="leads nowhere"):
        rewritten(f"[a]({target})")


def test_scripts_of_other_hosts_are_dropped() -> None:
    hook = runpy.run_path(str(DOCS / "hooks" / "own_host.py"))["on_post_page"]
    ours = '<script src="assets/a.js"></script><script>let a = "https://example.org"</script>'
    assert hook(f'{ours}<script type="module">const m = (await import("https://cdn.example/m.js")).x;</script>') == ours
    assert hook(f'{ours}<script src="https://cdn.example/m.js"></script>') == ours


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for name in PLUGINS:
        pytest.importorskip(name, reason="the site needs mkdocs-material, mkdocstrings[python] and mkdocs-jupyter")
    pytest.importorskip("openvino", reason="the notebook needs the cpu extra")
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--config-file",
        "mkdocs.yml",
        "--site-dir",
        str(folder),
    ]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


def test_the_site_builds_and_fetches_nothing(site: Path) -> None:
    found = sorted(site.rglob("*.html"))
    assert len(found) > 20
    for path in found:
        text = path.read_text(encoding="utf-8")
        for tag in re.findall(r"<(?:script|link|img|iframe|source|video|audio)\b[^>]*>", text):
            address = re.search(r'\b(?:src|href)="?(https?:)?//', tag)
            assert address is None, f"{path.relative_to(site)}: {tag[:200]}"
        assert not re.search(r"""\bimport\(\s*["']https?://""", text), path.relative_to(site)
    style = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert not re.search(r"url\(\s*[\"']?(https?:)?//", style)


def test_the_reference_shows_signatures_and_arguments(site: Path) -> None:
    text = re.sub(r"<[^>]+>", "", (site / "reference" / "adapters" / "index.html").read_text(encoding="utf-8"))
    assert "masks_of" in text
    assert "tracker" in text or "scores" in text
    patcher = (site / "reference" / "patcher" / "index.html").read_text(encoding="utf-8")
    assert 'id="maskmend.patcher.rle.Rle.from_coco"' in patcher
    clients = (site / "reference" / "clients" / "index.html").read_text(encoding="utf-8")
    assert 'id="maskmend.clients.refiner.Refiner.refine"' in clients


def test_the_notebook_is_shown_with_its_picture(site: Path) -> None:
    text = (site / "notebooks" / "first-steps" / "index.html").read_text(encoding="utf-8")
    assert "data:image/jpeg;base64," in text
    assert re.search(r"mba\s+0\.\d+ -&gt; 0\.\d+", text)
