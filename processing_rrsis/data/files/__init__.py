"""Files as they come: folders and zips, pickles, pictures, masks, and the rows that they become."""
