"""What `headrace serve` refuses before it starts anything."""

import socket

import pytest

from headrace.api.batches.limits import BatchLimits
from headrace.api.batches.shelf import Shelf
from headrace.api.server import address_of, is_loopback, listen
from headrace.cli.serve_options import accelerations, api_keys, data_folder, hosts, log_format_of, tiers
from headrace.errors import ArtefactError, HeadraceWarning, RequestError, ServiceError

KEY = "a-key-that-is-long-enough"


def test_keys_come_from_a_file_and_the_environment(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"# for the page\n{KEY}\n\n  another-key-that-is-long  \n")
    file.chmod(0o600)
    found = api_keys(file, {"HEADRACE_API_KEY": "the-key-of-the-environment"})
    assert found == ("the-key-of-the-environment", KEY, "another-key-that-is-long")
    assert api_keys(None, {}) == ()


@pytest.mark.parametrize("content", ["", "# nothing\n", "short\n", f"{KEY} with spaces\n", "schlüssel-schlüssel\n"])
def test_a_file_without_good_keys_is_refused(tmp_path, content):
    file = tmp_path / "keys"
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(ServiceError, match="key"):
        api_keys(file, {})


def test_a_file_of_keys_that_is_missing_is_refused_and_an_open_one_warned_of(tmp_path):
    with pytest.raises(ServiceError, match="cannot be read"):
        api_keys(tmp_path / "none", {})
    file = tmp_path / "keys"
    file.write_text(KEY)
    file.chmod(0o644)
    with pytest.warns(HeadraceWarning, match="chmod 600"):
        api_keys(file, {})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_other_addresses_need_a_key_or_the_operators_word(host):
    with pytest.raises(ServiceError, match="HEADRACE_API_KEY"):
        hosts(host, [], keyed=False, without_key=False)
    assert hosts(host, [], keyed=True, without_key=False) == ()
    assert hosts(host, [], keyed=False, without_key=True) == ()


def test_loopback_without_a_key_answers_to_its_own_names_alone():
    assert "localhost" in hosts("127.0.0.1", [], keyed=False, without_key=False)
    assert hosts("127.0.0.1", [], keyed=True, without_key=False) == ()
    assert hosts("0.0.0.0", ["Pictures.example"], keyed=True, without_key=False)[0] == "pictures.example"


def test_accelerations_have_names_and_are_artefacts(tmp_path):
    file = tmp_path / "tuned.json"
    file.write_text('{"kind": "acceleration"}')
    assert accelerations([f"fast={file}"], "fast") == {"fast": str(file)}
    for given in ("fast", "=x", f"none={file}"):
        with pytest.raises(RequestError, match="--acceleration"):
            accelerations([given], None)
    with pytest.raises(RequestError, match="taken"):
        accelerations([f"fast={file}", f"fast={file}"], None)
    with pytest.raises(ArtefactError, match="cannot be read"):
        accelerations(["fast=/nowhere.json"], None)
    with pytest.raises(RequestError, match="--default-acceleration"):
        accelerations([f"fast={file}"], "slow")


def test_tiers_stand_for_accelerations_that_there_are():
    assert tiers(["low=fast", "high=none"], {"fast": "f"}) == {"low": "fast", "high": "none"}
    for given in ("lowest=fast", "low=slow", "low"):
        with pytest.raises(RequestError, match="--quality"):
            tiers([given], {"fast": "f"})
    with pytest.raises(RequestError, match="--log-format"):
        log_format_of("xml")


def test_a_port_that_is_taken_and_an_address_of_elsewhere_are_told():
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        assert address_of(first) == f"http://127.0.0.1:{port}"
        with pytest.raises(ServiceError, match="cannot be listened on"):
            listen("127.0.0.1", port)
    with pytest.raises(ServiceError):
        listen("192.0.2.1", 0)
    with pytest.raises(ServiceError, match="--host"):
        listen("no.such.name.invalid", 0)


def test_loopback_is_what_this_machine_alone_reaches():
    assert is_loopback("127.0.0.1")
    assert is_loopback("localhost")
    assert is_loopback("127.8.8.8")
    assert not is_loopback("0.0.0.0")
    assert not is_loopback("no.such.name.invalid")
    if socket.has_ipv6:
        assert is_loopback("::1")


def test_batches_are_kept_where_it_was_said_or_among_the_users_state_files(tmp_path):
    assert data_folder(tmp_path / "here", "emoji", {}) == tmp_path / "here"
    state = {"XDG_STATE_HOME": str(tmp_path)}
    folder = data_folder(None, "models/mine", state)
    assert folder == tmp_path / "headrace" / "mine"
    shelf = Shelf(folder, BatchLimits())
    with pytest.warns(HeadraceWarning, match="another server"):
        assert data_folder(None, "models/mine", state) is None
    shelf.close()
    (tmp_path / "file").write_text("")
    with pytest.warns(HeadraceWarning, match="cannot be written"):
        assert data_folder(None, "emoji", {"XDG_STATE_HOME": str(tmp_path / "file")}) is None
