"""Tables, the papers' tables, contact sheets, curves and overlays."""
