"""`load_split`: which rows are scored."""

from processing_rrsis.data.load import load_split


def test_all_of_the_embedded_train_split_is_scored():
    rows = load_split("synthetic", "train", input_size_px=32, num_samples=12)
    assert len(rows) == 12
    assert len(set(rows["image_id"])) == 3
