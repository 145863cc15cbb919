"""The sources of the documentation: pages in Markdown, and in `site` what makes a site of them. Not in the wheel."""
