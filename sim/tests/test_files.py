"""Files are complete or not there."""

import json

import pytest

from nestwalk_sim.errors import UserError
from nestwalk_sim.files import write_json, write_text


def test_a_file_is_replaced_as_a_whole_and_keeps_its_mode(tmp_path):
    path = tmp_path / "new" / "result.json"
    write_json(path, {"agree": 1})
    path.chmod(0o640)
    write_json(path, {"agree": 2})
    assert json.loads(path.read_text()) == {"agree": 2}
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(path.parent.iterdir()) == [path]


def test_what_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "result.json"
    write_json(path, [1])
    with pytest.raises(TypeError):
        write_json(path, object())
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert path.read_text() == "[\n  1\n]\n"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("where", "reason"), [("", "is a directory"), ("file/below", "File exists")])
def test_a_bad_path_is_told_in_one_line(tmp_path, where, reason):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=f"cannot write .*: {reason}"):
        write_text(tmp_path / where, "text")
