"""Tables of scenes: every row of scene and expression is accounted for in a manifest, killed and resumed at will."""
