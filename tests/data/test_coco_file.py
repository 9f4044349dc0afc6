"""Annotation files that are damaged, and images that do not fit them: one sentence each."""

import shutil

import pytest
from PIL import Image

from pruning_lit.data.segments import flaw
from tests.data.detection_batches import epoch, evaluated
from tests.data.small_coco import PAIRS, annotation, coco, write_annotations, write_coco, write_part

FILE = PAIRS["train"][1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_coco(tmp_path_factory.mktemp("coco"))


@pytest.fixture
def root(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "coco")


def put(part, key, value):
    """Replaces a value of the first entry of a part; None takes it away."""

    def change(content):
        entry = content[part][0]
        entry.pop(key) if value is None else entry.update({key: value})

    return change


def twice(part):
    return lambda content: content[part].append(content[part][0])


WRONG = [
    (lambda content: content.pop("images"), r"it has no list 'images'"),
    (lambda content: content.update(annotations={}), r"it has no list 'annotations'"),
    (lambda content: content.update(categories=[]), r"it has no categories"),
    (lambda content: content.update(images=[]), r"it has no images"),
    (lambda content: content["images"].insert(0, 3), r"'id' of entry 0 of 'images' must be a whole number, got null"),
    (put("images", "file_name", None), r"'file_name' of entry 0 of 'images' must be a text, got null"),
    (put("images", "width", "80"), r"'width' of entry 0 of 'images' must be a whole number, got \"80\""),
    (put("annotations", "bbox", None), r"'bbox' of entry 0 of 'annotations' must be a list, got null"),
    (put("annotations", "bbox", [1, 2, 3]), r"the bbox of annotation 100 is \[1, 2, 3\], expected \[x, y, width"),
    (put("annotations", "bbox", [1, 2, 3, "4"]), r"the bbox of annotation 100 is \[1, 2, 3, '4'\], expected"),
    (put("annotations", "bbox", [1, 2, 3, float("nan")]), r"the bbox of annotation 100 is \[1.0, 2.0, 3.0, nan\]"),
    (put("annotations", "category_id", 9), r"the category 9 of annotation 100 is none of its categories"),
    (put("annotations", "image_id", 99), r"the image 99 of annotation 100 is none of its images"),
    (put("annotations", "area", "large"), r"the area of annotation 100 is 'large', expected a number"),
    (put("annotations", "iscrowd", [0]), r"the iscrowd of annotation 100 is \[0\], expected a number"),
    (put("categories", "name", 5), r"'name' of entry 0 of 'categories' must be a text, got 5"),
    (twice("categories"), r"two categories have the id 7"),
    (twice("images"), r"two images have the id 0"),
]


@pytest.mark.parametrize(("change", "sentence"), WRONG, ids=[sentence for _, sentence in WRONG])
def test_a_file_of_another_layout_is_refused_in_a_sentence(root, change, sentence):
    content = write_part(root, "train")
    change(content)
    write_annotations(root / FILE, content)
    with pytest.raises(ValueError, match=rf"^'.*/{FILE}' is not in COCO's layout: {sentence}"):
        coco(root)


@pytest.mark.parametrize(
    ("segment", "sentence"),
    [
        (None, "no segmentation"),
        ([], "no segmentation"),
        ([[1, 2, 3, 4]], "a polygon that is not 3 or more points x, y"),
        ([1, 2, 3, 4, 5, 6], "a polygon that is not 3 or more points x, y"),
        ([[1, 2, 3, 4, 5, 6, 7]], "a polygon that is not 3 or more points x, y"),
        ({"size": [9, 9], "counts": [81]}, r"run lengths of size \[9, 9\], but its image has \[60, 80\]"),
        ({"size": [60, 80], "counts": [81]}, "run lengths whose counts do not add up to its image"),
        ({"size": [60, 80]}, "run lengths whose counts do not add up to its image"),
    ],
)
def test_a_segment_that_cannot_be_drawn_is_refused_where_masks_are_asked_for(root, segment, sentence):
    content = write_part(root, "train")
    put("annotations", "segmentation", segment)(content)
    write_annotations(root / FILE, content)
    coco(root)
    with pytest.raises(ValueError, match=rf"layout: annotation 100 has {sentence}; dataset.masks=false does without"):
        coco(root, masks=True)


def test_whole_segments_have_no_flaw():
    assert flaw(annotation(0, [1, 2, 3, 4], 2)["segmentation"], 60, 80) is None
    assert flaw({"size": [60, 80], "counts": [60, 4740]}, 60, 80) is None
    assert flaw({"size": [60, 80], "counts": "0`0"}, 60, 80) is None


@pytest.mark.parametrize(("text", "why"), [("{", "Expecting property name"), ("", "Expecting value"), ("\xff", "")])
def test_a_file_that_is_not_json_is_refused(root, text, why):
    (root / FILE).write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=rf"^'.*/{FILE}' is not an annotation file in JSON \(.*{why}.*\)$"):
        coco(root)
    (root / FILE).write_text("[1, 2]")
    with pytest.raises(ValueError, match=rf"^'.*/{FILE}' is not in COCO's layout: expected a mapping with 'images'"):
        coco(root)


def test_missing_files_folders_and_images_are_named(root):
    with pytest.raises(FileNotFoundError, match=r"^the annotation file '.*/annotations/none.json' is missing"):
        coco(root, test=["test", "annotations/none.json"])
    with pytest.raises(FileNotFoundError, match=r"^the folder '.*/elsewhere' is missing: the images of '.*/test.json'"):
        coco(root, test=["elsewhere", PAIRS["test"][1]])
    (root / "test/4/0.png").unlink()
    shutil.rmtree(root / "test/7")
    with pytest.raises(FileNotFoundError, match=r"^2 of 11 images of '.*/test.json' are missing, the first is '.*/4/0"):
        coco(root)


def test_other_categories_are_refused(root):
    content = write_part(root, "test")
    content["categories"] = [{"id": 7, "name": "rouge"}, *content["categories"][1:]]
    write_annotations(root / PAIRS["test"][1], content)
    with pytest.raises(ValueError, match=r"^'.*/test.json' has other categories than '.*/train.json'"):
        coco(root)


def test_a_category_of_number_0_needs_labels_without_gaps(root):
    for name in PAIRS:
        content = write_part(root, name)
        content["categories"] = [{"id": 0, "name": "grey"}, *content["categories"]]
        write_annotations(root / PAIRS[name][1], content)
    with pytest.raises(ValueError, match=r"^the category 'grey' has the id 0, but .* set dataset.labels=contiguous"):
        coco(root)
    assert coco(root, labels="contiguous").classes == ["background", "grey", "red", "green", "blue"]


def test_nothing_to_learn_from_is_refused(root):
    content = write_part(root, "train")
    for each in content["annotations"]:
        each["iscrowd"] = 1
    write_annotations(root / FILE, content)
    with pytest.raises(ValueError, match=r"^no image of the training part has a box to be learned from$"):
        coco(root)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_image_that_cannot_be_read_or_has_another_size_is_named_in_one_sentence(root, num_workers):
    path = root / "train/4/0.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"^'.*train/4/0.png' is not a readable image \(.*\): replace or remove it$"):
        epoch(coco(root, num_workers=num_workers))
    Image.new("RGB", (30, 20)).save(root / "test/4/0.png")
    data = coco(root, num_workers=num_workers)
    with pytest.raises(ValueError, match=r"^'.*test/4/0.png' has 20×30 pixels \(height×width\), .* are for 60×80$"):
        evaluated(data, data.test_dataloader())


def test_masks_without_pycocotools_are_refused_with_what_installs_it(root, monkeypatch):
    monkeypatch.setattr("pruning_lit.data.segments.find_spec", lambda name: None)
    assert coco(root).num_classes == 8
    with pytest.raises(ValueError, match=r"^dataset.masks=true needs .*: pip install 'pruning_lit\[detection\]'$"):
        coco(root, masks=True)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"image_size": [64]}, r"dataset.image_size is \[64\], expected \[height, width\] in pixels, or null"),
        ({"image_size": [64, 0]}, r"dataset.image_size is \[64, 0\], expected"),
        ({"crop": "some"}, "dataset.crop is 'some', but it is one of none, any, every"),
        ({"labels": "names"}, "dataset.labels is 'names', but it is one of category_ids, contiguous"),
        ({"colour": [0.1, 0.2]}, r"dataset.colour is \[0.1, 0.2\], expected changes of brightness, contrast and"),
        ({"colour": [0.1, 0.2, -1]}, r"dataset.colour is \[0.1, 0.2, -1\], expected changes"),
        ({"train": []}, r"dataset.train has \(\) where \[folder of images, annotation file\] is expected"),
        ({"train": ["train", FILE]}, r"dataset.train has 'train' where \[folder of images, annotation file\] is"),
        ({"test": ["test"]}, r"dataset.test has \['test'\] where \[folder of images, annotation file\] is expected"),
        ({"validation": ["a", "b", "c"]}, r"dataset.validation has \['a', 'b', 'c'\] where"),
        ({"num_workers": -1}, r"dataset.num_workers is -1, but it is a number of processes \(0: none\)"),
    ],
)
def test_a_wrong_setting_is_refused_in_a_sentence(whole, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        coco(whole, **settings)
