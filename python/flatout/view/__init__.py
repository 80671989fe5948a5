"""Views of results: the terminal and the page. Nothing is measured or decided here."""
