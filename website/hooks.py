"""What MkDocs calls while it builds the site (the setting ``hooks`` of mkdocs.yml)."""

from __future__ import annotations

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from website import reference, repository
from website.reference import python


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in docs/."""
    added = {name: repository.page(name) for name in repository.PAGES}
    added[repository.EXAMPLES] = repository.examples()
    added |= reference.pages()
    for name, text in added.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links to files of the repository lead to pages of the site."""
    if page.file.generated_by:
        return markdown
    return repository.with_links_of_the_site(markdown, at=f"docs/{page.file.src_uri}")


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let public names lead to their place in the reference."""
    return python.with_links(html)
