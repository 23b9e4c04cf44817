"""Templates of the cards that are published on the Hub; a package only so that the templates are installed."""
