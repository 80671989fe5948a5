"""What people look at: the terminal and the page. Nothing is measured or decided here."""
