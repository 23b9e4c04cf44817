"""Writers of the published layouts, the demo, and damage for tests of the check."""
