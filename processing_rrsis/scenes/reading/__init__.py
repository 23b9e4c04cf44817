"""From a source to windows of 8-bit RGB: what rasterio opens, which bands, one stretch per scene."""
