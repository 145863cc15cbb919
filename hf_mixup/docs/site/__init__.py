"""How `make docs` builds the site: mkdocs.yml, and the pages that are made from code, results and notebooks."""
