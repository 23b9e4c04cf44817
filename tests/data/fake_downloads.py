"""Small downloads in the published layouts, written from a list of what is in them."""

import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

CATEGORY_IDS = {"Expressway-toll-station": 2, "golffield": 11, "ship": 14}
REFERENCES = (
    ("train", "golffield", "The golf field on the left"),
    ("train", "ship", "A ship"),
    ("train", "ship", "A white ship  "),
    ("val", "Expressway-toll-station", "The expressway toll station"),
    ("test", "ship", "The ship in the middle"),
    ("test", "golffield", "A golf field"),
)
PHRASES = {
    "train": ("car driving on the road", "light-duty vehicle in the parking area", "low vegetation"),
    "val": ("buses",),
    "test": ("road marking", "grass in the park"),
}


def pixels_of(number, height=30, width=40):
    """(H, W, 3) noise, a box of ones as the mask (H, W)."""
    image = np.random.default_rng(number).integers(0, 256, size=(height, width, 3), dtype=np.uint8)
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[5 : 12 + number, 8:20] = 1
    return image, mask


def encode(array, image_format, **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format=image_format, **options)
    return buffer.getvalue()


def runs_of(mask):
    runs = coco_mask.encode(np.asfortranarray(mask))
    return {"size": [int(side) for side in runs["size"]], "counts": runs["counts"].decode("ascii")}


def rrsisd_files(references=REFERENCES):
    """{name: bytes} of a download of RRSIS-D, reference and annotation numbers 100 and 500 above the image's."""
    files, refs, annotations = {}, [], []
    for number, (split, category, expression) in enumerate(references, start=1):
        image, mask = pixels_of(number)
        files[f"images/rrsisd/JPEGImages/{number:05d}.jpg"] = encode(image, "JPEG", quality=95)
        sentence = {"tokens": expression.split(), "raw": expression, "sent": expression.lower(), "sent_id": number}
        refs.append(
            {
                "image_id": number,
                "split": split,
                "sentences": [sentence],
                "file_name": f"{number:05d}.jpg",
                "category_id": CATEGORY_IDS[category],
                "ann_id": 500 + number,
                "sent_ids": [number],
                "ref_id": 100 + number,
            }
        )
        annotations.append(
            {
                "id": 500 + number,
                "image_id": number,
                "categories_id": CATEGORY_IDS[category],
                "bbox": [8, 5, 20, 12 + number],
                "area": 77.0,
                "segmentation": [runs_of(mask)],
            }
        )
    categories = [{"id": index, "name": name} for name, index in CATEGORY_IDS.items()]
    files["rrsisd/refs(unc).p"] = pickle.dumps(refs, protocol=2)
    files["rrsisd/instances.json"] = json.dumps({"annotations": annotations, "categories": categories}).encode()
    return files


def phrase_files(phrases=PHRASES, layout="refsegrs"):
    """{name: bytes} of a download of RefSegRS or RISBench."""
    image_folder, mask_folder, ending, kind = (
        ("images", "masks", ".tif", "TIFF") if layout == "refsegrs" else ("img_rgb", "mask", ".png", "PNG")
    )
    files, number = {}, 0
    for split, expressions in phrases.items():
        lines = []
        for expression in expressions:
            number += 1
            image, mask = pixels_of(number)
            files[f"{image_folder}/{number}{ending}"] = encode(image, kind)
            files[f"{mask_folder}/{number}{ending}"] = encode(mask * np.uint8(255), kind)
            lines.append(f"{number}{ending if layout == 'risbench' else ''} {expression}\r\n")
        files[f"output_phrase_{split}.txt"] = "".join(lines).encode()
    return files


def write_folder(files, folder):
    for name, data in files.items():
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return Path(folder)


def write_zip(files, path, outer=""):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", compression=zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(f"{outer}{name}", data)
    return Path(path)
