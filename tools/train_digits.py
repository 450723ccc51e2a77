"""Train the classifier of ``dynq demo`` and write python/dynq/demo/digits.npz; reproducible.

    pip install scikit-learn && python tools/train_digits.py

Data: scikit-learn's copy of the test set of the Optical Recognition of Handwritten Digits data (E. Alpaydin and
C. Kaynak, 1998, UCI Machine Learning Repository, CC BY 4.0): 1797 images of 8 x 8 pixels with values 0 to 16.
A quarter of each class is held out; it is shipped with the weights and no image of it is trained on.
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

OUTPUT = Path(__file__).parent.parent / "python/dynq/demo/digits.npz"
SEED = 0
HIDDEN = (256, 128)


def split() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training and test images uint8 (samples, 64), training and test labels uint8."""
    images, labels = load_digits(return_X_y=True)
    return train_test_split(
        images.astype(np.uint8), labels.astype(np.uint8), test_size=0.25, random_state=SEED, stratify=labels
    )


def main(output: Path) -> None:
    train_images, test_images, train_labels, test_labels = split()
    model = MLPClassifier(HIDDEN, alpha=1e-3, max_iter=300, random_state=SEED, early_stopping=False)
    model.fit(train_images / np.float32(16), train_labels)
    arrays = {"images": test_images, "labels": test_labels}
    for i, (w, b) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
        arrays[f"w{i}"] = np.ascontiguousarray(w.T, np.float32)  # (N, K)
        arrays[f"b{i}"] = b.astype(np.float32)
    np.savez_compressed(output, **arrays)
    accuracy = model.score(test_images / np.float32(16), test_labels)
    print(f"{output.name}: {output.stat().st_size} bytes, test accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT)
