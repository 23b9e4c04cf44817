"""What an expression says of places, and which objects of the scene it means: pure functions on map geometry."""
