"""Pages: tables, figures and one static HTML page from result files. docs/report.md says how to read them."""
