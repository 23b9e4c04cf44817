"""What is compared between a stranger's rows and ours."""

import hashlib

import numpy as np


def fingerprint(row):
    """Hash of everything that a row holds, decoded."""
    digest = hashlib.sha256()
    for name in sorted(row):
        value = row[name] if isinstance(row[name], str) else np.asarray(row[name])
        digest.update(value.encode() if isinstance(value, str) else value.tobytes() + str(value.shape).encode())
    return digest.hexdigest()
