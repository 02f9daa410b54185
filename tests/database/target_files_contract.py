"""What every target promises of its files and locks, as test cases; see ``target_contract``."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import FileProblem, Locked
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.base import Target
from tests.support.modules import COLLECTIONS
from tests.support.zoo import HOSTILE_NAMES

FILE_NAMES = [name for name in HOSTILE_NAMES if "/" not in name]
EVERY_BYTE = bytes(range(256))


def shell(script: str, *arguments: str) -> list[str]:
    """The argv of a script that is a constant of the test."""
    return ["sh", "-c", script, "sh", *arguments]


class ContractOfFiles:
    """The cases of files and locks."""

    source: str
    #: How long what is ours may go on when we are killed, in seconds.
    outlives_us_s = 0.0

    @contextmanager
    def other_process(self, code: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """A Python process with a ``target`` of its own, which has printed one line when we get it."""
        process = subprocess.Popen(
            [sys.executable, "-c", f"import sys\n{self.source}\n{code}", *arguments],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(COLLECTIONS)},
        )
        assert process.stdout is not None
        try:
            assert process.stdout.readline().strip() == b"ready"
            yield process
        finally:
            process.kill()
            process.wait()
            process.stdout.close()

    # --- files --------------------------------------------------------------------------------------------

    def test_a_file_is_written_whole_and_private(self, target: Target, folder: str) -> None:
        for data in (b"", EVERY_BYTE, b"shorter"):
            target.files.write(f"{folder}/file", data)
            assert target.files.read(f"{folder}/file") == data
        assert target.run(["ls", "-l", f"{folder}/file"]).text.startswith("-rw-------")
        assert [info.name for info in target.files.entries(folder)] == ["file"]

    def test_whoever_reads_while_a_file_is_written_sees_all_of_one_version(self, target: Target, folder: str) -> None:
        path, size = f"{folder}/file", 300_000
        target.files.write(path, b"a" * size)
        code = (
            "print('ready', flush=True)\n"
            "while True:\n"
            "    for letter in b'ab': target.files.write(sys.argv[1], bytes([letter]) * int(sys.argv[2]))"
        )
        with self.other_process(code, path, str(size)) as writer:
            for dummy in range(30):
                data = target.files.read(path)
                assert len(data) == size
                assert len(set(data)) == 1
            writer.kill()
            writer.wait()
        assert len(set(target.files.read(path))) == 1

    @pytest.mark.parametrize("skip", [0, 1, 255, 256, 257, 100_000, 200_512])
    def test_files_come_as_one_stream_from_any_byte_on(self, target: Target, folder: str, skip: int) -> None:
        contents = {
            f"{folder}/empty": b"",
            f"{folder}/-n": EVERY_BYTE,
            **{f"{folder}/{name}": EVERY_BYTE for name in FILE_NAMES},
            f"{folder}/large": EVERY_BYTE * 4000,
            f"{folder}/nothing": b"",
        }
        for path, data in contents.items():
            target.files.write(path, data)
        arrived = bytearray()
        target.files.stream({path: len(data) for path, data in contents.items()}, arrived.extend, skip)
        assert bytes(arrived) == b"".join(contents.values())[skip:]

    def test_a_stream_of_a_file_that_is_not_there_or_of_another_size_is_refused(
        self, target: Target, folder: str
    ) -> None:
        target.files.write(f"{folder}/file", EVERY_BYTE)
        arrived = bytearray()
        for name, size in (("nothing", 256), ("file", 255)):
            with pytest.raises(FileProblem, match=name):
                target.files.stream({f"{folder}/{name}": size}, arrived.extend)
            assert len(arrived) <= 255

    def test_a_file_that_cannot_be_written_leaves_nothing(self, target: Target, folder: str) -> None:
        target.files.make_dir(f"{folder}/taken/inside")
        for path in (f"{folder}/missing/file", f"{folder}/taken"):
            with pytest.raises(FileProblem, match=path):
                target.files.write(path, b"data")
        assert [info.name for info in target.files.entries(folder)] == ["taken"]

    @pytest.mark.parametrize("name", FILE_NAMES)
    def test_any_name_can_be_a_file(self, target: Target, folder: str, name: str) -> None:
        files, path = target.files, f"{folder}/{name}"
        files.write(path, name.encode())
        assert files.read(path) == name.encode()
        info = files.info(path)
        assert info is not None
        assert (info.path, info.name, info.is_dir, info.size_bytes) == (path, name, False, len(name.encode()))
        assert [each.name for each in files.walk(folder)] == [name]
        assert files.sha256([path]) == {path: hashlib.sha256(name.encode()).hexdigest()}
        files.rename(path, f"{path}2" if len(name) < 60 else f"{folder}/other")
        assert files.info(path) is None
        files.make_dir(path)
        files.remove_tree(path)
        assert len(files.entries(folder)) == 1

    def test_info_tells_what_is_there(self, target: Target, folder: str) -> None:
        files = target.files
        files.write(f"{folder}/file", b"12345")
        assert files.info(f"{folder}/nothing") is None
        assert files.info(f"{folder}/file/below") is None
        here, file = files.info(folder), files.info(f"{folder}/file")
        assert here is not None
        assert (here.is_dir, here.size_bytes) == (True, 0)
        assert file is not None
        assert (file.is_dir, file.size_bytes) == (False, 5)
        assert abs(file.modified - time.time()) < 600

    def test_entries_are_sorted_and_links_are_not_followed(self, target: Target, folder: str) -> None:
        files = target.files
        for name in ("b", "a", "ab", ".hidden"):
            files.write(f"{folder}/{name}", b"1")
        files.make_dir(f"{folder}/directory")
        target.run(["ln", "-s", "directory", f"{folder}/link"])
        target.run(["ln", "-s", "nowhere", f"{folder}/broken"])
        infos = files.entries(folder)
        assert [info.name for info in infos] == [".hidden", "a", "ab", "b", "broken", "directory", "link"]
        assert [info.name for info in infos if info.is_dir] == ["directory"]

    def test_walk_finds_every_file(self, target: Target, folder: str) -> None:
        files = target.files
        for path in ("z", "a/b/c/deep", "a/b2", "a/.hidden"):
            files.make_dir(os.path.dirname(f"{folder}/{path}"))
            files.write(f"{folder}/{path}", path.encode())
        files.make_dir(f"{folder}/empty")
        found = files.walk(folder)
        assert [info.path for info in found] == sorted(
            f"{folder}/{path}" for path in ("z", "a/b/c/deep", "a/b2", "a/.hidden")
        )
        assert [info.size_bytes for info in found] == [len(info.path) - len(folder) - 1 for info in found]

    def test_trees_are_listed_one_after_the_other(self, target: Target, folder: str) -> None:
        files = target.files
        names = [f"t{number} 'a'" for number in range(12)]
        for name in names:
            files.make_dir(f"{folder}/{name}/below")
            files.write(f"{folder}/{name}/z", b"123")
            files.write(f"{folder}/{name}/below/\n= 0", b"")
        target.run(["ln", "-s", "nowhere", f"{folder}/{names[1]}/link"])
        target.run(["ln", "-s", names[0], f"{folder}/linked"])
        files.make_dir(f"{folder}/empty")
        paths = [f"{folder}/{name}" for name in (*names, "empty", "nothing", f"{names[0]}/z")]
        found = dict(files.trees(paths))
        assert list(found) == paths
        assert found.pop(f"{folder}/nothing") is None
        assert found.pop(f"{folder}/{names[0]}/z") is None
        assert found.pop(f"{folder}/empty") == []
        odd = found.pop(f"{folder}/{names[1]}")
        assert odd is not None
        assert [info.path.rsplit("/", 1)[-1] for info in odd if info.irregular] == ["link"]
        for path, tree in found.items():
            assert tree == files.walk(path)
            assert [(info.path, info.size_bytes) for info in tree] == [(f"{path}/below/\n= 0", 0), (f"{path}/z", 3)]
        assert list(files.trees([])) == []

    @pytest.mark.parametrize("odd", [["ln", "-s", "file"], ["ln", "-s", "."], ["ln", "-s", "nowhere"], ["mkfifo"]])
    def test_walk_refuses_what_is_neither_file_nor_directory(
        self, target: Target, folder: str, odd: Sequence[str]
    ) -> None:
        target.files.make_dir(f"{folder}/below")
        target.files.write(f"{folder}/below/file", b"")
        target.run([*odd, f"{folder}/below/odd"])
        with pytest.raises(FileProblem, match="below/odd"):
            target.files.walk(folder)

    def test_reading_what_is_no_file_raises_at_once(self, target: Target, folder: str) -> None:
        target.run(["mkfifo", f"{folder}/fifo"])
        for path in (f"{folder}/fifo", folder, f"{folder}/nothing", f"{folder}/a\0b"):
            with pytest.raises(FileProblem):
                target.files.read(path)
        for path in (folder, f"{folder}/nothing"):
            with pytest.raises(FileProblem):
                target.files.sha256([path])
        for path in (f"{folder}/nothing", f"{folder}/fifo"):
            with pytest.raises(FileProblem):
                target.files.entries(path)
            with pytest.raises(FileProblem):
                target.files.walk(path)

    def test_read_refuses_what_is_too_large(self, target: Target, folder: str) -> None:
        target.files.write(f"{folder}/file", b"12345")
        assert target.files.read(f"{folder}/file", limit=5) == b"12345"
        with pytest.raises(FileProblem, match="more than 4 bytes"):
            target.files.read(f"{folder}/file", limit=4)

    def test_glob_finds_what_matches(self, target: Target, folder: str) -> None:
        for name in ("a1", "a2", "b1"):
            target.files.make_dir(f"{folder}/{name}/bin")
        assert target.files.glob(f"{folder}/a*/bin") == [f"{folder}/a1/bin", f"{folder}/a2/bin"]
        assert target.files.glob(f"{folder}/c*/bin") == []

    def test_make_dir_makes_parents_of_mode_0700_and_may_come_twice(self, target: Target, folder: str) -> None:
        for dummy in range(2):
            target.files.make_dir(f"{folder}/a/b/c")
        for path in ("a", "a/b", "a/b/c"):
            assert target.run(["ls", "-ld", f"{folder}/{path}"]).text.startswith("drwx------")
        target.files.write(f"{folder}/file", b"")
        for path in ("file", "file/below"):
            with pytest.raises(FileProblem, match=f"{folder}/file"):
                target.files.make_dir(f"{folder}/{path}")

    def test_rename_moves_and_never_replaces(self, target: Target, folder: str) -> None:
        files = target.files
        files.make_dir(f"{folder}/a/inside")
        files.rename(f"{folder}/a", f"{folder}/b")
        assert files.info(f"{folder}/a") is None
        assert files.info(f"{folder}/b/inside") is not None
        files.make_dir(f"{folder}/empty")
        files.write(f"{folder}/file", b"1")
        target.run(["ln", "-s", "nowhere", f"{folder}/link"])
        for taken in ("empty", "file", "link"):
            with pytest.raises(FileProblem, match="File exists"):
                files.rename(f"{folder}/b", f"{folder}/{taken}")
        with pytest.raises(FileProblem, match="File exists"):
            files.rename(f"{folder}/file", f"{folder}/b")
        with pytest.raises(FileProblem):
            files.rename(f"{folder}/nothing", f"{folder}/c")
        assert files.info(f"{folder}/b/inside") is not None

    def test_remove_tree_removes_all_and_follows_no_link(self, target: Target, folder: str) -> None:
        files = target.files
        files.make_dir(f"{folder}/outside/kept")
        files.write(f"{folder}/outside/file", b"1")
        files.make_dir(f"{folder}/tree/deep/er")
        files.write(f"{folder}/tree/deep/file", b"1")
        for link, to in (
            ("tree/link", "../outside"),
            ("tree/deep/file-link", "../../outside/file"),
            ("link", "outside"),
        ):
            target.run(["ln", "-s", to, f"{folder}/{link}"])
        files.remove_tree(f"{folder}/tree")
        files.remove_tree(f"{folder}/link")
        assert [info.name for info in files.entries(folder)] == ["outside"]
        assert [info.name for info in files.entries(f"{folder}/outside")] == ["file", "kept"]

    def test_remove_tree_removes_a_file_and_does_not_mind_nothing(self, target: Target, folder: str) -> None:
        target.files.write(f"{folder}/file", b"1")
        for dummy in range(2):
            target.files.remove_tree(f"{folder}/file")
        target.files.remove_tree(f"{folder}/a/b/c")
        assert target.files.entries(folder) == []

    def test_remove_file_goes_through_no_link(self, target: Target, folder: str) -> None:
        files = target.files
        files.make_dir(f"{folder}/outside")
        files.write(f"{folder}/outside/file", b"1")
        files.make_dir(f"{folder}/logs/deeper")
        for name in FILE_NAMES[:5]:
            files.write(f"{folder}/logs/{name}", b"1")
        target.run(["ln", "-s", "../outside/file", f"{folder}/logs/link"])
        target.run(["ln", "-s", "outside", f"{folder}/elsewhere"])
        target.run(["mkfifo", f"{folder}/logs/pipe"])
        found = {info.name: info.irregular for info in files.entries(f"{folder}/logs")}
        assert [name for name, irregular in found.items() if irregular] == ["link", "pipe"]
        for refused in ("logs/link", "logs/pipe", "logs/deeper", "elsewhere/file"):
            with pytest.raises(FileProblem, match="A file cannot be removed"):
                files.remove_file(f"{folder}/{refused}")
        assert files.read(f"{folder}/outside/file") == b"1"
        for name in FILE_NAMES[:5]:
            for dummy in range(2):
                files.remove_file(f"{folder}/logs/{name}")
        files.remove_file(f"{folder}/nowhere/file")
        assert [info.name for info in files.entries(f"{folder}/logs")] == ["deeper", "link", "pipe"]

    def test_resolve_follows_every_link(self, target: Target, folder: str) -> None:
        files = target.files
        real = files.resolve(folder)
        files.make_dir(f"{folder}/a b/c")
        target.run(["ln", "-s", "a b", f"{folder}/link"])
        assert files.resolve(f"{folder}/link/c") == f"{real}/a b/c"
        files.write(f"{folder}/file", b"1")
        for wrong in ("file", "nothing"):
            with pytest.raises(FileProblem, match="A directory cannot be read"):
                files.resolve(f"{folder}/{wrong}")

    def test_paths_of_one_file_system_have_one_device(self, target: Target, folder: str) -> None:
        device = target.files.space(folder).device
        assert device == target.files.space(f"{folder}/not/there").device
        assert device != target.files.space("/dev").device

    def test_sync_tree_tightens_modes(self, target: Target, folder: str) -> None:
        target.run(
            shell('umask 0; mkdir -p "$1/a/b"; echo x > "$1/a/b/file"; chmod 0640 "$1/a/b/file"', f"{folder}/tree")
        )
        target.files.sync_tree(f"{folder}/tree")
        listing = target.run(["ls", "-lR", f"{folder}/tree"]).text + target.run(["ls", "-ld", f"{folder}/tree"]).text
        modes = {line[:10] for line in listing.splitlines() if line[:1] in "d-" and " " in line}
        assert modes == {"drwx------", "-rw-------"}

    @pytest.mark.parametrize("jobs", [1, 4])
    def test_sha256_is_that_of_the_content(self, target: Target, folder: str, jobs: int) -> None:
        contents = {f"{folder}/{size}": EVERY_BYTE * size for size in (0, 1, 4096, 8192)}
        for path, data in contents.items():
            target.files.write(path, data)
        expected = {path: hashlib.sha256(data).hexdigest() for path, data in contents.items()}
        assert target.files.sha256(list(contents), jobs) == expected
        assert target.files.sha256([], jobs) == {}

    def test_space_is_that_of_the_file_system(self, target: Target, folder: str) -> None:
        here = target.files.space(folder)
        assert 0 < here.free_bytes <= here.total_bytes
        assert target.files.space(f"{folder}/not/there/yet").total_bytes == here.total_bytes

    def test_writable_tells_whether_a_directory_can_be_made(self, target: Target, folder: str) -> None:
        target.files.write(f"{folder}/file", b"")
        assert target.files.writable(folder)
        assert target.files.writable(f"{folder}/not/there/yet")
        assert not target.files.writable(f"{folder}/file/below")

    def until_free(self, target: Target, path: str) -> None:
        """Wait for a lock whose holder was killed, where that may take a while."""
        end = time.monotonic() + self.outlives_us_s
        while time.monotonic() < end and target.files.lock_holder(path):
            time.sleep(0.1)

    # --- locks --------------------------------------------------------------------------------------------

    HOLD = """
import time
with target.files.lock(sys.argv[1], 'a test'):
    print('ready', flush=True)
    time.sleep(300)
"""

    def test_a_lock_excludes_and_names_its_holder(self, target: Target, folder: str) -> None:
        path = f"{folder}/.lock"
        with self.other_process(self.HOLD, path) as holder:
            started = time.monotonic()
            with (
                pytest.raises(Locked, match=f"a test by process {holder.pid} since 20"),
                target.files.lock(path, "mine"),
            ):
                pytest.fail("two have the lock")
            assert time.monotonic() - started < 5

    def test_a_lock_tells_who_holds_it_and_asking_takes_nothing(self, target: Target, folder: str) -> None:
        path = f"{folder}/.lock"
        assert target.files.lock_holder(path) is None
        assert target.files.info(path) is None
        with self.other_process(self.HOLD, path) as holder:
            for dummy in range(3):
                assert f"a test by process {holder.pid}" in (target.files.lock_holder(path) or "")
            holder.kill()
            holder.wait()
        self.until_free(target, path)
        assert target.files.lock_holder(path) is None
        with target.files.lock(path, "mine"):
            assert "mine" in (target.files.lock_holder(path) or "")

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
    def test_a_lock_ends_with_its_holder(self, target: Target, folder: str, number: signal.Signals) -> None:
        path = f"{folder}/.lock"
        with self.other_process(self.HOLD, path) as holder:
            holder.send_signal(number)
            holder.wait()
        self.until_free(target, path)
        with target.files.lock(path, "mine"):
            pass

    def test_a_lock_ends_with_its_block_and_can_be_taken_again(self, target: Target, folder: str) -> None:
        path = f"{folder}/.lock"
        for dummy in range(2):
            with pytest.raises(KeyError), target.files.lock(path, "mine"):
                raise KeyError
        with target.files.lock(path, "mine"), pytest.raises(Locked), target.files.lock(path, "again"):
            pytest.fail("we have the lock twice")

    def test_programs_do_not_inherit_a_lock(self, target: Target, folder: str) -> None:
        path = f"{folder}/.lock"
        with target.files.lock(path, "mine"):
            job = target.spawn(["sleep", "300"], log=f"{folder}/log")
        try:
            with target.files.lock(path, "mine"):
                pass
        finally:
            job.stop()

    def test_one_path_locked_leaves_another_free(self, target: Target, folder: str) -> None:
        with target.files.lock(f"{folder}/a", "mine"), target.files.lock(f"{folder}/b", "mine"):
            pass

    def test_a_lock_where_nothing_can_be_written_raises(self, target: Target, folder: str) -> None:
        with pytest.raises(FileProblem, match=r"missing/\.lock"), target.files.lock(f"{folder}/missing/.lock", "mine"):
            pytest.fail("a lock without a file")
