"""Preparing data sets: what is accepted, what is refused, and what the one line says."""

import io
import os
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.datasets.celeba import CelebA
from data import prepare
from data.prepare import main

CELEBA_NAMES = [f"{number:06d}.jpg" for number in range(1, 21)]


def jpeg(width: int = 178, height: int = 218, seed: int = 0) -> bytes:
    rows = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(rows).resize((width, height)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def write(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def partition(names=CELEBA_NAMES) -> str:
    return "".join(f"{name} {min(2, max(0, index - len(names) + 3))}\n" for index, name in enumerate(names))


def celeba_folder(folder: Path, listed: bool = True) -> Path:
    for name in CELEBA_NAMES:
        write(folder / "img_align_celeba" / name, jpeg())
    if listed:
        write(folder / "list_eval_partition.txt", partition())
    return folder


def zipped(path: Path, files: dict[str, bytes | str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, files: dict[str, bytes], extra: tarfile.TarInfo | None = None, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        if extra is not None:
            archive.addfile(extra)
    return path


def celeba_files(prefix: str = "img_align_celeba/") -> dict[str, bytes]:
    return {prefix + name: jpeg() for name in CELEBA_NAMES}


@pytest.fixture
def refused(capsys):
    """Runs a command that must fail with one line, exit status 2; returns the line."""

    def run(*words) -> str:
        with pytest.raises(SystemExit) as stopped:
            main([str(word) for word in words])
        assert stopped.value.code == 2
        lines = capsys.readouterr().err.replace("\r", "\n").strip().splitlines()
        said = [line for line in lines if line.startswith("error: ")]
        assert len(said) == 1
        assert lines[-1] == said[0]
        return said[0]

    return run


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---------------------------------------------------------------- celeba, accepted


def test_folder_in_the_layout_is_recognised(tmp_path, capsys):
    folder = celeba_folder(tmp_path / "celeba")
    main(["celeba", str(folder)])
    said = capsys.readouterr().out
    assert "subset of CelebA: 20 images of 202,599; 18 train / 1 val / 1 test" in said
    assert said.splitlines()[-1] == f"next: python -m glcic.train cpu --data-dir {folder}"


def test_the_published_counts_add_up():
    assert sum(prepare.CELEBA_COUNTS.values()) == 202_599


def test_complete_set_is_called_complete(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(prepare, "CELEBA_COUNTS", {"train": 18, "val": 1, "test": 1})
    main(["celeba", str(celeba_folder(tmp_path / "celeba"))])
    assert "CelebA is complete: 20 images, 18 train / 1 val / 1 test as published" in capsys.readouterr().out


@pytest.mark.parametrize("prefix", ["img_align_celeba/", "img_align_celeba/img_align_celeba/", "celeba/Img/aligned/"])
def test_zip_is_unpacked_beside_its_list(tmp_path, capsys, prefix):
    source = zipped(tmp_path / "down" / "img_align_celeba.zip", celeba_files(prefix))
    write(tmp_path / "down" / "list_eval_partition.txt", partition())
    main(["celeba", str(source), "--output", str(tmp_path / "celeba")])
    assert leftovers(tmp_path / "celeba") == ["img_align_celeba", "list_eval_partition.txt"]
    assert leftovers(tmp_path / "celeba" / "img_align_celeba") == CELEBA_NAMES
    assert leftovers(tmp_path) == ["celeba", "down"]
    assert len(CelebA(tmp_path / "celeba", "train")) == 18
    main(["celeba", str(source), "--output", str(tmp_path / "celeba")])
    assert "prepared already; nothing was unpacked" in capsys.readouterr().out


def test_zip_left_packed_is_checked_in_place(tmp_path, capsys):
    zipped(tmp_path / "img_align_celeba.zip", celeba_files())
    write(tmp_path / "list_eval_partition.txt", partition())
    main(["celeba", str(tmp_path)])
    main(["celeba", str(tmp_path / "img_align_celeba.zip")])
    assert capsys.readouterr().out.count("20 images") == 2
    assert leftovers(tmp_path) == ["img_align_celeba.zip", "list_eval_partition.txt"]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_tar_holding_the_official_folders(tmp_path, mode):
    inner = zipped(tmp_path / "inner.zip", celeba_files()).read_bytes()
    files = {"CelebA/Img/img_align_celeba.zip": inner, "CelebA/Eval/list_eval_partition.txt": partition().encode()}
    source = tarred(tmp_path / "celeba.tar", files, mode=mode)
    main(["celeba", str(source), "--output", str(tmp_path / "celeba")])
    assert len(CelebA(tmp_path / "celeba", "test")) == 1


def test_mount_with_comma_list_and_mac_litter(tmp_path):
    files = celeba_files() | {"__MACOSX/img_align_celeba/._000001.jpg": b"litter", "img_align_celeba/._000002.jpg": b""}
    lines = ["image_id,partition", *partition().replace(" ", ",").split()]
    zipped(tmp_path / "data107578" / "archive.zip", files | {"list_eval_partition.csv": "\n".join(lines)})
    main(["celeba", str(tmp_path / "data107578"), "--output", str(tmp_path / "celeba")])
    assert leftovers(tmp_path / "celeba" / "img_align_celeba") == CELEBA_NAMES
    assert (tmp_path / "celeba" / "list_eval_partition.txt").read_text() == partition()


def test_scattered_folder_is_brought_together_and_left_as_it_was(tmp_path):
    source = tmp_path / "CelebA"
    celeba_folder(source / "Img", listed=False)
    write(source / "Eval" / "list_eval_partition.txt", partition())
    main(["celeba", str(source), "--output", str(tmp_path / "celeba")])
    assert len(CelebA(tmp_path / "celeba", "val")) == 1
    assert leftovers(source / "Img" / "img_align_celeba") == CELEBA_NAMES


def test_missing_partition_is_explained_and_made_on_request(tmp_path, refused, capsys):
    folder = celeba_folder(tmp_path / "celeba", listed=False)
    line = refused("celeba", folder)
    assert f"{folder / 'list_eval_partition.txt'} is missing" in line
    assert "--make-partition" in line
    main(["celeba", str(folder), "--make-partition"])
    assert "is not the official split" in capsys.readouterr().out
    codes = [line.split() for line in (folder / "list_eval_partition.txt").read_text().splitlines()]
    assert codes == [[name, {18: "1", 19: "2"}.get(index, "0")] for index, name in enumerate(CELEBA_NAMES)]
    assert "is there already" in refused("celeba", folder, "--make-partition")


# ---------------------------------------------------------------- celeba, refused


def test_list_naming_missing_files(tmp_path, refused):
    folder = celeba_folder(tmp_path / "celeba")
    for name in CELEBA_NAMES[3:7]:
        (folder / "img_align_celeba" / name).unlink()
    line = refused("celeba", folder)
    assert "names 4 images that are not there: 000004.jpg, 000005.jpg, 000006.jpg, …" in line


def test_pictures_missing_from_the_list_are_counted(tmp_path, capsys):
    folder = celeba_folder(tmp_path / "celeba")
    write(folder / "list_eval_partition.txt", partition(CELEBA_NAMES[2:]))
    main(["celeba", str(folder)])
    assert "2 images are not in the list and will not be used, 000001.jpg first" in capsys.readouterr().out


def test_pictures_of_another_size(tmp_path, refused):
    folder = celeba_folder(tmp_path / "celeba")
    write(folder / "img_align_celeba" / "000003.jpg", jpeg(89, 109))
    assert "000003.jpg is 89 x 109 px; aligned CelebA has 178 x 218" in refused("celeba", folder)


@pytest.mark.parametrize("start", ["\n<!DOCTYPE html><html>", "<HTML lang=en>"])
@pytest.mark.parametrize("output", [True, False])
def test_web_page_saved_as_zip(tmp_path, refused, output, start):
    page = write(tmp_path / "img_align_celeba.zip", start + "<title>Google Drive - Quota exceeded</title></html>")
    write(tmp_path / "list_eval_partition.txt", partition())
    line = refused("celeba", page, *(["--output", tmp_path / "celeba"] if output else []))
    assert "is a web page, not an archive" in line
    assert leftovers(tmp_path) == ["img_align_celeba.zip", "list_eval_partition.txt"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"just text", "neither a zip nor a tar"), (b"", "neither a zip nor a tar"), (None, "cut short")],
)
def test_other_files_that_are_no_archive(tmp_path, refused, content, reason):
    whole = zipped(tmp_path / "whole.zip", celeba_files()).read_bytes()
    source = write(tmp_path / "bad.zip", whole[: len(whole) // 2] if content is None else content)
    assert reason in refused("celeba", source, "--output", tmp_path / "celeba")


BAD_NAMES = ["../outside.jpg", "a/../../outside.jpg", "/tmp/outside.jpg", "..\\outside.jpg", "C:\\outside.jpg"]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_that_lead_out_are_refused(tmp_path, refused, name, kind):
    down = tmp_path / "deep" / "down"
    files = celeba_files() | {name: b"evil"}
    down.mkdir(parents=True)
    source = zipped(down / "x.zip", files) if kind == "zip" else tarred(down / "x.tar", files)
    assert "leads out of the folder: refused" in refused("celeba", source, "--output", tmp_path / "deep" / "celeba")
    assert not list(tmp_path.rglob("*outside*"))
    assert leftovers(tmp_path / "deep") == ["down"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path, refused, kind):
    link = tarfile.TarInfo("img_align_celeba/000021.jpg")
    link.type, link.linkname = kind, "/etc/passwd"
    source = tarred(tmp_path / "x.tar", celeba_files(), extra=link)
    assert "holds a link or device" in refused("celeba", source, "--output", tmp_path / "celeba")
    assert leftovers(tmp_path) == ["x.tar"]


def test_links_in_a_zip_are_refused(tmp_path, refused):
    info = zipfile.ZipInfo("img_align_celeba/000021.jpg")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    source = zipped(tmp_path / "x.zip", celeba_files())
    with zipfile.ZipFile(source, "a") as archive:
        archive.writestr(info, "/etc/passwd")
    assert "holds a link" in refused("celeba", source, "--output", tmp_path / "celeba")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_bomb_is_stopped(tmp_path, refused, monkeypatch, kind):
    monkeypatch.setattr(prepare, "UNPACKED_BYTES", 10_000)
    files = {"000001.jpg": bytes(30_000_000)}
    if kind == "zip":
        source = tmp_path / "bomb.zip"
        with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("000001.jpg", files["000001.jpg"])
    else:
        source = tarred(tmp_path / "bomb.tar", files)
    assert "these are not just images" in refused("celeba", source, "--output", tmp_path / "celeba")
    assert leftovers(tmp_path) == [source.name]


def test_output_that_holds_something_else(tmp_path, refused):
    source = zipped(tmp_path / "a.zip", celeba_files())
    write(tmp_path / "out" / "thesis.txt", "mine")
    assert "holds something else" in refused("celeba", source, "--output", tmp_path / "out")
    assert leftovers(tmp_path / "out") == ["thesis.txt"]


def test_sources_that_are_not_celeba(tmp_path, refused):
    assert "there is no file or folder" in refused("celeba", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "add --output DIR" in refused("celeba", tmp_path / "empty")
    assert "no image named like 000001.jpg" in refused("celeba", tmp_path / "empty", "--output", tmp_path / "out")
    other = zipped(tmp_path / "a.zip", {"notes.txt": "no image"})
    assert "no image named like 000001.jpg" in refused("celeba", other, "--output", tmp_path / "out")
    assert "not in CelebA's layout" in refused("celeba", other)


# ---------------------------------------------------------------- pairs and masks


def side_by_side(folder: Path, prefix: str = "") -> dict[str, bytes]:
    return {
        f"{prefix}{split}/{n}.jpg": jpeg(512, 256) for split, count in (("train", 3), ("val", 2)) for n in range(count)
    }


@pytest.mark.parametrize("what", ["cityscapes", "facades"])
def test_side_by_side_pairs(tmp_path, capsys, what):
    source = tarred(tmp_path / f"{what}.tar.gz", side_by_side(tmp_path, f"{what}/"))
    main([what, str(source), "--output", str(tmp_path / "out")])
    main([what, str(tmp_path / "out")])
    said = capsys.readouterr().out
    assert said.count("3 train / 2 val pairs, a subset; published are") == 2
    assert leftovers(tmp_path / "out") == ["train", "val"]
    main([what, str(source), "--output", str(tmp_path / "out")])
    assert "prepared already" in capsys.readouterr().out


def test_pairs_that_are_not_twice_as_wide(tmp_path, refused):
    write(tmp_path / "train" / "1.jpg", jpeg(256, 256))
    assert "is 256 x 256 px; photo and label side by side" in refused("facades", tmp_path)


def test_paddle_list_layout(tmp_path, capsys, refused):
    for side in "AB":
        write(tmp_path / f"train{side}" / "1.jpg", jpeg(64, 32))
        write(tmp_path / f"train{side}" / "2.jpg", jpeg(64, 32))
    listed = write(tmp_path / "pix2pix_train_list", "trainA/1.jpg\ttrainB/1.jpg\ntrainA/2.jpg\ttrainB/2.jpg\n")
    main(["cityscapes", str(tmp_path)])
    assert "2 train pairs" in capsys.readouterr().out
    (tmp_path / "trainB" / "2.jpg").unlink()
    assert "lacks 1 images that belong to a pair: trainB/2.jpg" in refused("cityscapes", tmp_path)
    write(listed, "trainA/1.jpg trainB/1.jpg\n")
    assert "pix2pix_train_list, line 1: expected two names with a tab" in refused("cityscapes", tmp_path)


def test_official_cityscapes_layout(tmp_path, capsys, refused):
    photo = write(tmp_path / "leftImg8bit/train/ulm/ulm_000000_000019_leftImg8bit.png", jpeg(64, 32))
    label = write(tmp_path / "gtFine/train/ulm/ulm_000000_000019_gtFine_color.png", jpeg(64, 32))
    main(["cityscapes", str(tmp_path)])
    assert "1 train pairs" in capsys.readouterr().out
    label.write_bytes(jpeg(32, 32))
    assert "differ in size" in refused("cityscapes", tmp_path)
    label.unlink()
    assert "ulm_000000_000019_gtFine_color.png" in refused("cityscapes", tmp_path)
    assert photo.is_file()


def test_pairs_in_no_known_layout(tmp_path, refused):
    source = zipped(tmp_path / "a.zip", {"readme.txt": "nothing"})
    assert "needs --output DIR" in refused("cityscapes", source)
    assert "none of the layouts known here" in refused("cityscapes", source, "--output", tmp_path / "out")
    assert leftovers(tmp_path) == ["a.zip"]


def test_voc_masks(tmp_path, capsys, refused):
    prefix = "VOCdevkit/VOC2012/"
    files = {f"{prefix}SegmentationClass/2007_{n:06d}.png": jpeg(32, 32) for n in range(3)}
    files[f"{prefix}ImageSets/Segmentation/train.txt"] = b"2007_000000\n2007_000001\n"
    files[f"{prefix}ImageSets/Segmentation/val.txt"] = b"2007_000002\n"
    main(["voc", str(tarred(tmp_path / "voc.tar", files)), "--output", str(tmp_path / "voc")])
    assert "2 train / 1 val masks" in capsys.readouterr().out
    (tmp_path / "voc" / "SegmentationClass" / "2007_000001.png").unlink()
    assert "train.txt names 1 images that are not there: 2007_000001.png" in refused("voc", tmp_path / "voc")


# ---------------------------------------------------------------- verify


def test_verify_names_the_broken_ones(tmp_path, capsys):
    write(tmp_path / "whole.jpg", jpeg(seed=1))
    write(tmp_path / "deep" / "too.jpg", jpeg(seed=2))
    main(["verify", str(tmp_path)])
    assert f"2 images in {tmp_path}: 0 corrupt; 2 of 178 x 218 px" in capsys.readouterr().out
    write(tmp_path / "deep" / "cut.jpg", jpeg(seed=3)[:-2000])
    write(tmp_path / "text.jpg", "not an image at all")
    with pytest.raises(SystemExit) as stopped:
        main(["verify", str(tmp_path)])
    assert stopped.value.code == 1
    said = capsys.readouterr().out
    assert f"cannot read {tmp_path / 'deep' / 'cut.jpg'}: corrupt image" in said
    assert f"cannot read {tmp_path / 'text.jpg'}: not an image" in said
    assert "4 images" in said
    assert "2 corrupt" in said


def test_verify_needs_pictures(tmp_path, refused):
    assert "there is no image" in refused("verify", tmp_path)
    assert "there is no folder" in refused("verify", tmp_path / "nowhere")


# ---------------------------------------------------------------- real images

# ---- folders and zips as people have them


@pytest.mark.parametrize("suffix", [".JPG", ".png", ".jpeg"])
@pytest.mark.parametrize("packed", [False, True])
def test_celeba_of_another_suffix_goes_with_the_official_list(tmp_path, capsys, suffix, packed):
    """img_align_celeba_png and cameras' capitals; in the zip what macOS packs along comes first."""
    names = {f"img_align_celeba/{n:06d}{suffix}": n for n in range(1, 13)}
    folder = tmp_path / "c"
    for name, n in names.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (178, 218), (n * 10,) * 3).save(folder / name)
    if packed:
        with zipfile.ZipFile(folder / "img_align_celeba.zip", "w") as archive:
            for name in names:  # as many as there are images
                archive.writestr(f"__MACOSX/img_align_celeba/._{Path(name).name}", b"junk")
            archive.writestr("readme.txt", b"hello")
            for name in names:
                archive.write(folder / name, name)
        shutil.rmtree(folder / "img_align_celeba")
    (folder / "list_eval_partition.txt").write_text(
        "".join(f"{n:06d}.jpg {0 if n < 9 else 1 if n < 11 else 2}\n" for n in range(1, 13))
    )
    prepare.main(["celeba", str(folder)])
    assert "12 images" in capsys.readouterr().out
    faces = CelebA(folder, "val")
    assert [int(faces[n].mean().round(-1)) for n in range(2)] == [90, 100] and faces.notes == [
        f"train 8, val 2, test 2 (CelebA, by {folder / 'list_eval_partition.txt'})"
    ]


def test_own_images_in_several_archives(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "x.png")
    for name, count in (("train", 20), ("test", 2)):
        with zipfile.ZipFile(tmp_path / f"in/{name}.zip", "w") as archive:
            for n in range(count):
                archive.write(tmp_path / "x.png", f"{n:02d}.png")
    with pytest.raises(SystemExit):
        prepare.main(["images", str(tmp_path / "in")])
    assert "archives (test.zip, train.zip)" in capsys.readouterr().err
    prepare.main(["images", str(tmp_path / "in"), "--output", str(tmp_path / "out")])
    assert "train 19 (train/), val 1 (every 20th of train/), test 2 (test/)" in capsys.readouterr().out


def test_verify_reads_a_zip_and_names_what_it_passes_over(tmp_path, capsys):
    Image.new("RGB", (9, 6)).save(tmp_path / "a.png")
    with zipfile.ZipFile(tmp_path / "my.zip", "w") as archive:
        archive.write(tmp_path / "a.png", "in/a.png")
        archive.writestr("in/b.png", b"no image")
        archive.writestr("in/c.cr2", b"raw")
    with pytest.raises(SystemExit) as ended:
        prepare.main(["verify", str(tmp_path / "my.zip")])
    told = capsys.readouterr().out
    assert ended.value.code == 1 and "passed over: 1 .cr2" in told
    assert "my.zip/in/b.png: not an image" in told and "1 corrupt; 1 of 9 x 6 px" in told


@pytest.mark.parametrize("spelled", ["train", "Training"])
def test_pairs_in_folders_of_any_usual_spelling(tmp_path, spelled):
    for folder in (spelled, "Validation"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (20, 10)).save(tmp_path / folder / "1.png")
    found = prepare.find_pairs(tmp_path)
    assert found == {"train": [(tmp_path / spelled / "1.png",)], "val": [(tmp_path / "Validation/1.png",)]}


@pytest.mark.realdata
@pytest.mark.skipif("SUITE_DATA" not in os.environ, reason="SUITE_DATA does not name the folder of real images")
def test_real_celeba(capsys):
    main(["celeba", str(Path(os.environ["SUITE_DATA"]) / "celeba")])
    assert "5,000 images of 202,599; 4,500 train / 250 val / 250 test" in capsys.readouterr().out


def test_no_file_takes_the_place_of_another(tmp_path, refused):
    source = zipped(tmp_path / "twins.zip", {"x/a.jpg": jpeg(), "x\\a.jpg": jpeg(seed=1)})
    assert "would take the place of another file" in refused("images", source, "--output", tmp_path / "out")
    assert leftovers(tmp_path) == ["twins.zip"]


def test_archives_of_one_stem_are_unpacked_apart(tmp_path):
    for n in (1, 2):
        (tmp_path / "mount").mkdir(exist_ok=True)
        zipped(tmp_path / f"mount/photos.{n}.zip", {"a.jpg": jpeg(seed=n)})
    main(["images", str(tmp_path / "mount"), "--output", str(tmp_path / "out")])
    assert sorted(file.read_bytes() for file in (tmp_path / "out").rglob("a.jpg")) == sorted(
        [jpeg(seed=1), jpeg(seed=2)]
    )


def test_encrypted_and_empty_zips_are_called_so(tmp_path, refused):
    source = zipped(tmp_path / "secret.zip", {"a.jpg": jpeg()})
    data = source.read_bytes()
    for sign, flags in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        place = data.index(sign) + flags
        data = data[:place] + bytes([data[place] | 1]) + data[place + 1 :]
    source.write_bytes(data)
    assert "is encrypted: unpack it yourself, with its password" in refused(
        "images", source, "--output", tmp_path / "o"
    )
    assert "no image" in refused("images", zipped(tmp_path / "empty.zip", {}), "--output", tmp_path / "o")
