"""Write docs/bad_inputs.md from the table."""

from .table import DOC, markdown

DOC.write_text(markdown())
