"""Text data sets: the bytes of a file, split in order, and clear refusals."""

from __future__ import annotations

import hashlib
import os
import sys

import pytest
import torch

import trainers.data.text as text_sets
from trainers.data import DataError, Text, datasets, for_confirmation

LINES = "".join(f"{i} Grüße\n" for i in range(500)).encode()


def joined(data: Text) -> bytes:
    return torch.cat([data.train, data.val, data.test]).numpy().tobytes()


@pytest.fixture
def shakespeare(monkeypatch):
    """Any bytes, taken for tiny Shakespeare."""
    monkeypatch.setattr(text_sets, "_SHAKESPEARE_SHA256", hashlib.sha256(LINES).hexdigest())
    return LINES


def test_a_text_is_its_bytes_in_order(tmp_path):
    (tmp_path / "a.txt").write_bytes(LINES)
    data = datasets.get("text")(root=str(tmp_path / "a.txt"), context=16, val_fraction=0.25)
    assert joined(data) == LINES
    assert len(data.val) == round(len(LINES) / 4)
    assert (data.train.dtype, data.input_shape, data.num_outputs) == (torch.uint8, (16,), 256)


def test_line_ends_and_bytes_that_are_no_text_are_kept(tmp_path):
    content = bytes(range(256)) * 8 + b"\r\n\xff"
    (tmp_path / "a.bin").write_bytes(content)
    assert joined(datasets.get("text")(root=str(tmp_path / "a.bin"), context=8)) == content


@pytest.mark.parametrize("name", ["text", "tiny_shakespeare"])
def test_a_context_is_256_bytes_unless_said(tmp_path, shakespeare, name):
    (tmp_path / "input.txt").write_bytes(shakespeare)
    data = datasets.get(name)(root=str(tmp_path / "input.txt"))
    assert (data.context, len(data.val)) == (256, round(len(LINES) / 10))


def test_a_missing_text(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.txt' does not exist; set data\.root to a text file"):
        datasets.get("text")(root=str(tmp_path / "nowhere.txt"))


def test_a_folder_is_no_text(tmp_path):
    with pytest.raises(DataError, match=r"is a folder; set data\.root to a text file"):
        datasets.get("text")(root=str(tmp_path))


def test_an_endless_device_is_no_text():
    with pytest.raises(DataError, match="'/dev/zero' is no file"):
        datasets.get("text")(root="/dev/zero")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_text_that_may_not_be_read(tmp_path):
    (tmp_path / "a.txt").write_bytes(LINES)
    (tmp_path / "a.txt").chmod(0)
    with pytest.raises(DataError, match="cannot be read"):
        datasets.get("text")(root=str(tmp_path / "a.txt"))


def test_an_empty_text(tmp_path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(DataError, match=r"a\.txt is empty"):
        datasets.get("text")(root=str(tmp_path / "a.txt"))


@pytest.mark.parametrize(("context", "fits"), [(9, True), (10, False), (200, False)])
def test_every_part_holds_one_context_and_the_byte_after_it(tmp_path, context, fits):
    """100 bytes, of which the last 10 are for the test, and the 10 before that for validation."""
    (tmp_path / "a.txt").write_bytes(LINES[:100])
    options = {"root": str(tmp_path / "a.txt"), "context": context, "test_fraction": 0.1}
    if fits:
        data = datasets.get("text")(**options)
        assert (len(data.train), len(data.val), len(data.test)) == (80, 10, 10)
    else:
        with pytest.raises(DataError, match=f"has 100 bytes, .* at least data.context . 1 = {context + 1}; take"):
            datasets.get("text")(**options)


def test_a_text_may_have_no_test_part(tmp_path):
    (tmp_path / "a.txt").write_bytes(LINES[:100])
    data = datasets.get("text")(root=str(tmp_path / "a.txt"), context=9, test_fraction=0)
    assert (len(data.train), len(data.val), data.test) == (90, 10, None)
    with pytest.raises(DataError, match="scored on a test set, and this data set has none"):
        for_confirmation(data)


def test_a_confirmation_trains_on_all_but_the_end(tmp_path):
    (tmp_path / "a.txt").write_bytes(LINES[:100])
    data = for_confirmation(datasets.get("text")(root=str(tmp_path / "a.txt"), context=9, test_fraction=0.1))
    assert data.train.numpy().tobytes() == LINES[:90]
    assert data.val.numpy().tobytes() == LINES[90:100]


def test_a_text_that_is_too_large_is_refused_before_it_is_read(tmp_path):
    """A file of 3 GB of which nothing is stored."""
    with open(tmp_path / "a.txt", "wb") as file:
        file.truncate(3_000_000_000)
    with pytest.raises(DataError, match=r"has 3\.0 GB; a text is held in memory, up to 2\.1 GB; cut it"):
        datasets.get("text")(root=str(tmp_path / "a.txt"))


@pytest.mark.parametrize("name", ["text", "tiny_shakespeare"])
@pytest.mark.parametrize("root", ["a\0b", "x" * 300, "~nosuchuserhere"])
def test_impossible_paths_are_refused(name, root):
    with pytest.raises(DataError, match=r"data\.root"):
        datasets.get(name)(root=root)


@pytest.mark.parametrize("name", ["tinyshakespeare.txt", "input.txt"])
def test_tiny_shakespeare_in_a_folder(tmp_path, shakespeare, name):
    (tmp_path / name).write_bytes(shakespeare)
    assert joined(datasets.get("tiny_shakespeare")(root=str(tmp_path))) == shakespeare


def test_tiny_shakespeare_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"has no tinyshakespeare\.txt or input\.txt.*data\.download=true"):
        datasets.get("tiny_shakespeare")(root=str(tmp_path))


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b.replace(b"\n", b"\r\n"), lambda b: b.upper()])
def test_another_text_is_not_tiny_shakespeare(tmp_path, shakespeare, change):
    wrong = change(shakespeare)
    (tmp_path / "input.txt").write_bytes(wrong)
    with pytest.raises(DataError, match=f"is not tiny Shakespeare, .* it has {len(wrong):,} bytes; remove it"):
        datasets.get("tiny_shakespeare")(root=str(tmp_path))


def test_tiny_shakespeare_is_fetched_once(tmp_path, shakespeare, monkeypatch):
    calls = []

    def urlretrieve(url, path):
        calls.append(url)
        with open(path, "wb") as file:
            file.write(shakespeare)

    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, max_hops: url)
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", urlretrieve)
    for _ in range(2):
        assert joined(datasets.get("tiny_shakespeare")(root=str(tmp_path / "new"), download=True)) == shakespeare
    assert len(calls) == 1
    assert (tmp_path / "new" / "tinyshakespeare.txt").is_file()


def test_tiny_shakespeare_that_cannot_be_fetched(tmp_path, monkeypatch):
    def urlopen(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    with pytest.raises(DataError, match=r"could not be fetched to .*no network"):
        datasets.get("tiny_shakespeare")(root=str(tmp_path), download=True)


def test_pydoc_is_every_topic_of_help_in_order():
    from pydoc_data.topics import topics

    rest = joined(datasets.get("pydoc")(context=64)).decode()
    for name in sorted(topics):
        assert rest.startswith(topics[name])
        rest = rest[len(topics[name]) :].removeprefix("\n\n")
    assert rest == ""


def test_pydoc_topics_are_sorted_by_name(monkeypatch):
    monkeypatch.setattr("pydoc_data.topics.topics", {"with": "w" * 50, "class": "c" * 50, "lambda": "l" * 50})
    content = joined(datasets.get("pydoc")(context=7))
    assert content == b"\n\n".join([b"c" * 50, b"l" * 50, b"w" * 50])


def test_a_python_without_its_documentation(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(DataError, match=r"without pydoc_data\.topics; use another, or data\.name=text"):
        datasets.get("pydoc")()
