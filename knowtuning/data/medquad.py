"""MedQuAD as its authors published it: XML documents in a folder or an archive."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element, ParseError

from knowtuning.data.records import Row, text_of
from knowtuning.files import DataError

ARCHIVES = (".zip", ".tar", ".tar.xz", ".tar.gz", ".tgz")
NO_ANSWER, NO_QUESTION = "without an answer", "without a question"


def is_xml(path: str | Path) -> bool:
    """Tell whether a path can hold MedQuAD's documents: a folder, an `.xml` file, a `.zip` or a tar archive."""
    path = Path(path)
    return path.is_dir() or path.name.endswith((".xml", *ARCHIVES))


def read_xml(path: str | Path) -> tuple[list[Row], dict[str, int]]:
    """Read MedQuAD's documents; questions without an answer are counted and left out.

    The answers of three of the twelve collections were taken out by the authors for copyright's sake, so that two
    thirds of the questions have none. Five documents have other tags than the rest; they are read as well.

    Args:
        path: the folder of the collections, one document, or the archive of the folder (`.zip` or `.tar.xz`), which
            is read without being unpacked on the disk.

    Returns:
        QA rows in the order of folder and file names and, in a document, of the file. A row is called "GARD-0000001-1"
        by its collection and the question's id; where several documents use the same ids (the parts of a CancerGov
        page do) the file's name stands in place of the document's id: "CancerGov-0000013_2_1-1". Beside them the
        questions left out, by reason, and the number of documents without any question.

    Raises:
        DataError: a document that is no XML or not MedQuAD's, with its name inside the archive; no document at all.
    """
    documents = sorted((_place(name), name, content) for name, content in _documents(Path(path)))
    if not documents:
        raise DataError(f"{path} holds no .xml document; give MedQuAD's folder, archive or one of its documents.")
    rows, removed = [], {NO_ANSWER: 0, NO_QUESTION: 0, "documents without any question": 0}
    for _, name, content in documents:
        where = f"{path}, {name}"
        collection, pairs = _pairs(_parse(content, where), where)
        removed["documents without any question"] += not pairs
        for qid, question, answer in pairs:
            if not answer or not question:
                removed[NO_QUESTION if answer else NO_ANSWER] += 1
                continue
            texts = {"question": question, "answer": answer}
            texts = {field: text_of(texts, field, where) for field in texts}
            rows.append({"id": f"{collection}-{qid}", **texts, "source": collection, "file": name})
    return _own_ids(rows), removed


def _documents(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (name inside the folder or archive, content) of every XML file that is not hidden."""
    try:
        if path.is_dir():
            for file in path.rglob("*.xml"):
                if _visible(file.name):
                    yield file.relative_to(path).as_posix(), file.read_bytes()
        elif not path.is_file():
            raise DataError(f"{path} is missing; give MedQuAD's folder, archive or one of its documents.")
        elif path.suffix == ".xml":
            yield path.name, path.read_bytes()
        elif path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                for name in filter(_visible, archive.namelist()):
                    yield name, archive.read(name)
        else:
            with tarfile.open(path) as archive:
                for member in archive:
                    if member.isfile() and _visible(member.name):
                        yield member.name, archive.extractfile(member).read()
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise DataError(f"{path} cannot be read as an archive ({error}); fetch it anew.") from None


def _visible(name: str) -> bool:
    return name.endswith(".xml") and not PurePosixPath(name).name.startswith(".")


def _place(name: str) -> tuple[str, str]:
    """The last folder and the file: the same for a folder, its archive, and an archive with one folder around it."""
    path = PurePosixPath(name)
    return path.parent.name, path.name


def _parse(content: bytes, where: str) -> Element:
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        return fromstring(content)
    except (ParseError, DefusedXmlException) as error:
        raise DataError(f"{where}: not a safe XML document ({error!r}); fetch it anew or remove it.") from None


def _pairs(document: Element, where: str) -> tuple[str, list[tuple[str, str, str]]]:
    """Return the collection's name and (question id, question, answer) of every pair of a document."""
    collection = document.get("source") or document.get("corpus")
    if not collection:
        raise DataError(f"{where}: the tag <{document.tag}> names no 'source'; give documents of MedQuAD only.")
    pairs = []
    for pair in document.iter():
        if pair.tag.casefold() not in ("qapair", "pair"):
            continue
        parts = {part.tag.casefold(): part for part in pair}
        if not {"question", "answer"} <= parts.keys() or not parts["question"].get("qid"):
            raise DataError(f"{where}: a <{pair.tag}> lacks <Question qid=…> or <Answer>; repair or remove it.")
        texts = ("".join(parts[tag].itertext()).strip() for tag in ("question", "answer"))
        pairs.append((parts["question"].get("qid"), *texts))
    return collection, pairs


def _own_ids(rows: list[dict]) -> list[Row]:
    files: dict[str, set[str]] = {}
    for row in rows:
        files.setdefault(row["id"], set()).add(row["file"])
    for row in rows:
        stem = PurePosixPath(row.pop("file")).stem
        if len(files[row["id"]]) > 1:
            row["id"] = f"{row['source']}-{stem}-{row['id'].rpartition('-')[2]}"
    return rows
