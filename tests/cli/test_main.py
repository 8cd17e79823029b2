"""The command line: what each command prints, writes and exits with."""

import json
import os
import re
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import click
import pytest
from click.testing import CliRunner, Result

from swproxy import __version__, sign_url
from swproxy.cli.main import main
from swproxy.cli.resolver import resolve
from swproxy.config.loader import load_to_sign
from tests.support.config import load

MODELS = "https://api.openai.com/v1/models"
KEY = {"OPENAI_API_KEY": "canary-key"}


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("SW_ID", "SW_SECRET", "SW_HOST", "SWPROXY_CONFIG", "OPENAI_API_KEY", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def run(
    *arguments: str, stdin: str | bytes | None = None, env: Mapping[str, str] | None = None
) -> Result:
    return CliRunner().invoke(main, arguments, input=stdin, env=env)


def ok(*arguments: str, stdin: str | None = None, env: Mapping[str, str] | None = None) -> str:
    result = run(*arguments, stdin=stdin, env=env)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return result.stdout


def refused(*arguments: str, code: int = 2, env: Mapping[str, str] | None = None) -> str:
    """Run a command that fails, and return what it says, on standard error alone."""
    result = run(*arguments, env=env)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    return result.stderr


def secret_in(output: str) -> str:
    found = re.search(r"^  secret  (\S+)$", output, re.MULTILINE)
    assert found
    return found[1]


def initialise(*arguments: str) -> str:
    """Set up an application `chat`, and return its secret."""
    return secret_in(ok("init", "--app", "chat", *arguments))


def parameter(url: str, name: str) -> str:
    return parse_qs(urlsplit(url).query)[name][0]


def commands(
    group: click.Group = main, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


class TestHelp:
    @pytest.mark.parametrize("path", [path for path, _ in commands()], ids=" ".join)
    def test_every_command_has_an_example(self, path: tuple[str, ...]) -> None:
        text = ok(*path, "--help")
        assert f"swproxy {' '.join(path)}" in text.partition("Example:")[2]

    @pytest.mark.parametrize("path", [path for path, _ in commands()], ids=" ".join)
    def test_examples_are_valid(self, path: tuple[str, ...]) -> None:
        _, _, example = ok(*path, "--help").partition("Example:\n")
        used = set(re.findall(r" (--?[A-Za-z][a-z-]*)", example.replace("curl -N", "")))
        known = {
            option for _, command in commands() for each in command.params for option in each.opts
        }
        assert used <= known | {"-f"}  # of `cut`

    def test_commands_are_listed_in_the_order_of_use_and_whole(self) -> None:
        text = ok("--help")
        listed = re.findall(r"^  (\w+)   ? *[A-Z]", text.partition("Commands:")[2], re.MULTILINE)
        first = ["demo", "init", "app", "sign", "explain", "check", "serve"]
        assert listed == [*first, "usage", "limits", "revoke", "top"]
        assert "..." not in text.partition("Commands:")[2]
        assert "_SWPROXY_COMPLETE=bash_source" in text

    def test_version(self) -> None:
        assert ok("--version") == f"swproxy {__version__}\n"

    def test_bad_usage(self) -> None:
        assert "No such command" in refused("serv")
        assert "No such option" in refused("check", "--nope")


class TestInit:
    def test_it_sets_up_a_first_application(self, directory: Path) -> None:
        output = ok("init")
        (file,) = (directory / "apps").iterdir()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE((directory / "swproxy.toml").stat().st_mode) == 0o600
        app = load(Path("swproxy.toml"), KEY).apps[file.stem]
        assert app.secrets == (secret_in(output),)
        assert app.headers == ((b"Authorization", b"Bearer canary-key"),)
        assert output.count(app.secrets[0]) == 1

    def test_the_next_steps_can_be_run(self) -> None:
        output = ok("init")
        assert "  export OPENAI_API_KEY=...\n  swproxy serve\n" in output
        arguments = re.search(r'curl -N "\$\(swproxy (.*)\)"', output)
        assert arguments
        assert ok(*arguments[1].split()).startswith("http://127.0.0.1:3000/?X-Sw-Algorithm=")

    def test_options(self, directory: Path) -> None:
        output = ok(
            *("init", "--config", "my conf/sw.toml", "--app", "chat"),
            *("--allow", "https://*.example.com/*", "--allow", "https://b.example/x"),
            *("--header", "X-Key:  a ${A}${B} ", "--header", "X-Plain: c:d"),
        )
        config = load(directory / "my conf" / "sw.toml", {"A": "1", "B": "2"})
        app = config.apps["chat"]
        assert [each.text for each in app.allow] == [
            "https://*.example.com/*",
            "https://b.example/x",
        ]
        assert app.headers == ((b"X-Key", b"a 12"), (b"X-Plain", b"c:d"))
        assert "export A=...\n  export B=...\n" in output
        assert "swproxy serve --config 'my conf/sw.toml'" in output

    def test_it_never_overwrites(self, directory: Path) -> None:
        ok("init", "--app", "a")
        before = (directory / "swproxy.toml").read_bytes()
        assert refused("init") == "swproxy.toml: is there already; nothing was written\n"
        (directory / "swproxy.toml").unlink()
        assert refused("init", "--app", "a").startswith("apps/a.toml: is there already")
        assert not (directory / "swproxy.toml").exists()
        assert before

    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            (["--header", "A: b"], "--header needs --allow"),
            (["--allow", "*", "--header", "nonsense"], "write it as 'Name: value'"),
            (["--allow", "*", "--header", "Host: x"], "headers.Host: is set by swproxy itself"),
            (["--allow", "nowhere"], "allow[0]: begins with no scheme"),
            (["--app", "../x"], "is an application id with a slash"),
        ],
    )
    def test_what_it_refuses(self, directory: Path, arguments: list[str], reason: str) -> None:
        assert reason in refused("init", *arguments)
        assert list(directory.iterdir()) == []

    def test_a_directory_that_cannot_be_written(self, directory: Path) -> None:
        (directory / "file").write_text("")
        assert "swproxy: " in refused("init", "--config", "file/swproxy.toml", code=1)


class TestApp:
    @pytest.fixture(autouse=True)
    def secret(self, directory: Path) -> str:
        return initialise()

    def test_add(self) -> None:
        output = ok("app", "add", "two", "--allow", "https://two.example/*")
        assert load_to_sign(Path("swproxy.toml"), {}).apps["two"].secrets == (secret_in(output),)
        ok("app", "add", "--allow", "*", "--header", "X-Key: ${KEY}")
        ids = [line.split("\t")[0] for line in ok("app", "list").splitlines()]
        assert len(ids) == 3
        assert {"chat", "two"} < set(ids)

    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            (["x"], "--allow is needed"),
            (["chat", "--allow", "*"], "apps/chat.toml: has an application chat already"),
            (["a/b", "--allow", "*"], "with a slash"),
            (["x", "--allow", "*", "--config", "nope.toml"], "nope.toml: does not exist"),
        ],
    )
    def test_add_refuses(self, arguments: list[str], reason: str) -> None:
        assert reason in refused("app", "add", *arguments)

    def test_list_and_show_work_without_the_key_and_tell_no_secret(self, secret: str) -> None:
        assert ok("app", "list") == "chat\t1\thttps://api.openai.com/v1/*\tapps/chat.toml\n"
        shown = ok("app", "show", "chat")
        assert "header\tAuthorization: Bearer ${OPENAI_API_KEY}\n" in shown
        assert "secret\t***\n" in shown
        assert secret not in shown

    def test_list_of_nothing(self) -> None:
        ok("app", "remove", "chat")
        result = run("app", "list")
        assert (result.exit_code, result.stdout) == (0, "")
        assert "swproxy app add" in result.stderr

    def test_rotate_and_retire(self, secret: str) -> None:
        newer = secret_in(ok("app", "rotate", "chat"))
        assert load_to_sign(Path("swproxy.toml"), {}).apps["chat"].secrets == (secret, newer)
        assert "`retire`" in refused("app", "rotate", "chat")
        assert newer not in ok("app", "retire", "chat")
        assert load_to_sign(Path("swproxy.toml"), {}).apps["chat"].secrets == (newer,)
        assert "`rotate`" in refused("app", "retire", "chat")

    def test_remove(self, directory: Path) -> None:
        assert "Removed apps/chat.toml" in ok("app", "remove", "chat")
        assert list((directory / "apps").iterdir()) == []
        assert "there is no application chat" in refused("app", "remove", "chat")

    @pytest.mark.parametrize(
        ("header", "reason"),
        [
            ("Authorization: Bearer ", "is a variable empty, or not set?"),
            ("X-Api-Key: ", "is empty"),
            ("Authorization: Bearer", "none follows"),
            ("Authorization: Bearer $KEY", "has a $ as for a shell"),
        ],
    )
    def test_a_header_without_its_key_is_not_written(
        self, directory: Path, header: str, reason: str
    ) -> None:
        assert reason in refused("app", "add", "new", "--allow", "*", "--header", header)
        assert not (directory / "apps/new.toml").exists()

    def test_a_key_that_was_typed_is_in_the_shell_s_history(self) -> None:
        header = ("--allow", "https://a.example/*", "--header")
        typed = run("app", "add", "one", *header, "Authorization: Bearer sk-canary")
        assert "note: the value of Authorization stands in your shell's history" in typed.stderr
        assert "canary" not in typed.output
        for harmless in ("X-Api-Key: ${KEY}", "Accept: text/plain"):
            assert run("app", "add", *header, harmless).stderr == ""

    def test_an_id_with_a_space_can_be_typed_as_it_is_shown(self, directory: Path) -> None:
        config = ("--config", str(directory / "swproxy.toml"))
        ok("app", "add", "my app", "--allow", "*")
        rotated = ok("app", "rotate", "my app", *config).splitlines()
        words = shlex.split(rotated[-1])
        assert words == ["swproxy", "app", "retire", "my app", *config]
        assert ok(*words[1:])
        assert "'my app'" in refused("sign", MODELS)
        assert 'no application "my ap"; did you mean "my app"?' in refused("app", "show", "my ap")
        with (directory / "swproxy.toml").open("a") as file:
            file.write("[apps.'in main']\nsecrets = ['0']\nallow = ['*']\n")
        assert '[apps."in main"] is in the main file' in refused("app", "rotate", "in main")

    def test_a_misspelt_id(self) -> None:
        assert 'did you mean "chat"?' in refused("app", "show", "caht")

    def test_completion(self) -> None:
        ok("app", "add", "chart", "--allow", "*")
        ok("app", "add", "other", "--allow", "*")
        environment = {
            "_SWPROXY_COMPLETE": "bash_complete",
            "COMP_WORDS": "swproxy app show ch",
            "COMP_CWORD": "3",
        }
        result = CliRunner().invoke(main, [], env=environment, prog_name="swproxy")
        assert result.stdout.splitlines() == ["plain,chart", "plain,chat"]
        Path("swproxy.toml").unlink()
        result = CliRunner().invoke(main, [], env=environment, prog_name="swproxy")
        assert (result.stdout.strip(), result.stderr) == ("", "")


class TestSign:
    def test_it_prints_the_url_and_nothing_else(self) -> None:
        secret = initialise()
        url = ok("sign", MODELS).strip()
        assert parameter(url, "X-Sw-Proxy") == MODELS
        assert parameter(url, "X-Sw-Credential").startswith("chat/")
        assert parameter(url, "X-Sw-Expires") == "600"
        assert secret not in url

    @pytest.mark.parametrize("arguments", [[], ["--host", "https://edge.example"]])
    def test_without_a_configuration(self, arguments: list[str]) -> None:
        env = {"SW_ID": "my-id", "SW_SECRET": "my-secret"}
        url = ok("sign", MODELS, *arguments, env=env).strip()
        host = arguments[1] if arguments else "http://127.0.0.1:3000"
        assert url.startswith(f"{host}/?")
        assert parameter(url, "X-Sw-Credential").startswith("my-id/")
        assert explained(url, "ok", env=env)

    def test_the_environment_prevails_over_the_only_application(self) -> None:
        initialise()
        env = {"SW_ID": "my-id", "SW_SECRET": "my-secret"}
        assert "my-id%2F" in ok("sign", MODELS, env=env)
        assert "chat%2F" in ok("sign", MODELS, "--app", "chat", env=env)

    def test_a_secret_alone_is_for_the_configuration(self, directory: Path) -> None:
        (directory / "swproxy.toml").write_text(
            "[apps.chat]\nsecrets = ['${SW_SECRET}']\nallow = ['*']\n"
        )
        assert "chat%2F" in ok("sign", MODELS, env={"SW_SECRET": "x"})

    def test_the_public_url(self, directory: Path) -> None:
        initialise()
        (directory / "swproxy.toml").write_text("server.public_url = 'https://edge.example/sw'")
        assert ok("sign", MODELS).startswith("https://edge.example/sw/?")
        assert ok("sign", MODELS, env={"SW_HOST": "http://x"}).startswith("http://x/?")
        (directory / "swproxy.toml").write_text("server.listen = ['unix:/run/s']")
        assert "set server.public_url" in refused("sign", MODELS)

    def test_a_listener_with_tls_is_called_by_https(self, directory: Path) -> None:
        initialise()
        files = "tls_certificate = 'not/readable.pem'\ntls_key = '${file:neither}'"
        (directory / "swproxy.toml").write_text(f"[server]\n{files}")
        assert ok("sign", MODELS).startswith("https://127.0.0.1:3000/?")
        environ = {"SW_ID": "my-id", "SW_SECRET": "my-secret"}
        assert ok("sign", MODELS, env=environ).startswith("https://127.0.0.1:3000/?")

    def test_spaces_are_signed_and_taken(self) -> None:
        initialise("--allow", "https://a.example/*")
        url = ok("sign", "https://a.example/my file?q=a b").strip()
        assert " " not in url
        assert explained(url, "ok")
        assert "ends in a blank" in run("sign", "https://a.example/a ").stderr

    def test_method_headers_and_body(self, directory: Path) -> None:
        initialise()
        (directory / "body.json").write_bytes(b"\xff\x00")
        request = ["-H", "X-A: b", "-H", "X-C:d", "--body", "@body.json", "--expiry", "5"]
        url = ok("sign", MODELS, *request).strip()
        assert parameter(url, "X-Sw-Body") == "true"
        assert parameter(url, "X-Sw-Expires") == "5"
        assert set(parameter(url, "X-Sw-SignedHeaders").split(";")) == {
            "x-a",
            "x-c",
            "content-length",
        }
        assert explained(url, "ok", *request[:6])
        assert explained(url, "bad", *request[:6], "-X", "GET")
        put = ok("sign", MODELS, "-X", "PUT", "--body", "@-", stdin="héllo").strip()
        assert explained(put, "ok", "-X", "PUT", "--body", "héllo")

    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            (["nowhere"], "proxy_url: "),
            ([MODELS, "-X", "G T"], "method: "),
            ([MODELS, "-H", "nonsense"], "write it as 'Name: value'"),
            ([MODELS, "-H", "A: b", "-H", "a: c"], "only once"),
            ([MODELS, "--expiry", "0"], "--expiry"),
            ([MODELS, "--body", "@nope"], "nope: No such file"),
            ([MODELS, "--app", "nope"], "there is no application nope"),
            ([MODELS, "--config", "nope.toml"], "nope.toml: does not exist"),
            ([MODELS, "--host", "edge.example"], "host: "),
        ],
    )
    def test_what_it_refuses(self, arguments: list[str], reason: str) -> None:
        initialise("--allow", "*")
        assert reason in run("sign", *arguments).stderr
        assert run("sign", *arguments).exit_code == 2

    def test_which_application(self) -> None:
        assert "swproxy.toml: does not exist" in refused("sign", MODELS)
        assert "SW_SECRET is not" in refused("sign", MODELS, env={"SW_ID": "x"})
        initialise()
        ok("app", "add", "two", "--allow", "*")
        assert "--app for which application: chat, two" in refused("sign", MODELS)
        assert "two%2F" in ok("sign", MODELS, "--app", "two")

    def test_a_url_that_will_be_refused_is_signed_with_a_note(self) -> None:
        initialise()
        result = run("sign", "https://evil.example/")
        assert result.exit_code == 0
        assert result.stdout.startswith("http://127.0.0.1:3000/?")
        assert "note: swproxy will refuse this URL" in result.stderr

    @pytest.mark.parametrize("configured", [True, False])
    def test_a_longer_expiry_than_is_taken_is_signed_with_a_note(self, *, configured: bool) -> None:
        env = {} if configured else {"SW_ID": "my-id", "SW_SECRET": "my-secret"}
        if configured:
            initialise()
        result = run("sign", MODELS, "--expiry", "604801", env=env)
        assert result.exit_code == 0
        assert "note: swproxy will refuse this URL" in result.stderr
        assert "limits.expiry_seconds" in result.stderr
        assert "limits.expiry_seconds" not in run("sign", MODELS, "--expiry", "604800").stderr

    def test_a_private_destination_is_signed_with_a_note(self) -> None:
        initialise("--allow", "http://10.0.0.7:8000/v1/*")
        result = run("sign", "http://10.0.0.7:8000/v1/models")
        assert result.exit_code == 0
        assert 'add "10.0.0.7/32" to upstream.private_networks' in result.stderr

    def test_terms_are_signed(self) -> None:
        initialise()
        chat = "https://api.openai.com/v1/chat/completions"
        terms = ("user=42", "seconds=60", "body.model=small,a b", "body.n%2Em?=1..8", "body=only")
        url = ok("sign", chat, "-X", "POST", *(part for term in terms for part in ("--term", term)))
        assert parameter(url.strip(), "X-Sw-Proxy") == (
            f"{chat}#sw1:user=42&seconds=60&body.model=small,a%20b&body.n%2Em?=1..8&body=only"
        )
        body = '{"model":"a b","n.m":8}'
        text = explained(url.strip(), "ok", "-X", "POST", "--body", body)
        assert re.search(r"^ok +term body\.model +small,a b$", text, re.MULTILINE)
        text = explained(url.strip(), "bad", "-X", "POST", "--body", '{"model":"a b","n.m":9}')
        assert "terms-not-met" in text
        text = explained(url.strip(), "ok", "-X", "POST")
        assert "unknown  term body.model" in text
        assert text.endswith("If what is unknown here is as it has to be.\n")

    @pytest.mark.parametrize(
        ("term", "complaint"),
        [
            ("usr=42", "The term 'usr' is no term that there is."),
            ("user", "user: write it as NAME=VALUE"),
            ("=42", "a term: write it as NAME=VALUE"),
            ("body.n=2..1", "has a range that ends before it begins"),
        ],
    )
    def test_a_term_that_cannot_be_meant_is_told(self, term: str, complaint: str) -> None:
        initialise()
        assert complaint in refused("sign", MODELS, "--term", term)

    def test_a_url_has_one_fragment(self) -> None:
        initialise()
        assert "has a fragment already" in refused("sign", f"{MODELS}#a", "--term", "user=42")

    def test_two_urls_that_are_counted_are_never_the_same(self) -> None:
        initialise()

        def destination(*terms: str) -> str:
            options = [word for term in terms for word in ("--term", term)]
            url = ok("sign", "https://api.openai.com/v1/models", *options)
            return parameter(url.strip(), "X-Sw-Proxy")

        for counted in ("uses=1", "tokens=500"):
            first, second = destination(counted), destination(counted)
            assert first != second
            assert re.fullmatch(rf".*#sw1:{counted}&tag\.once=[0-9a-f]{{16}}", first)
        # Who tags says what tells them apart, and what is not counted need not be.
        assert destination("uses=1", "tag.job=7").endswith("#sw1:uses=1&tag.job=7")
        assert destination("seconds=5").endswith("#sw1:seconds=5")

    def test_terms_that_the_application_refuses_are_signed_with_a_note(self) -> None:
        initialise()
        result = run("sign", MODELS, "--term", "plan=gold")
        assert result.exit_code == 0
        assert "the application has no such plan" in result.stderr

    def test_it_signs_while_a_rotation_is_under_way(self) -> None:
        initialise()
        ok("app", "rotate", "chat")
        assert explained(ok("sign", MODELS).strip(), "ok")


def explained(url: str, verdict: str, *arguments: str, env: Mapping[str, str] | None = None) -> str:
    """Explain a URL, check the verdict, and return what is printed."""
    result = run("explain", url, *arguments, env=env)
    assert result.exit_code == (0 if verdict == "ok" else 1), result.output
    assert result.stderr == ""
    last = {"ok": "\nAccepted.\n", "bad": "\nRefused: ", "unknown": "\nNot known: "}
    assert last[verdict] in result.stdout
    return result.stdout


class TestExplain:
    def test_accepted(self) -> None:
        secret = initialise()
        url = ok("sign", MODELS).strip()
        text = explained(url, "ok")
        assert "Canonical request" not in text
        assert secret not in text
        assert parameter(url, "X-Sw-Signature") not in text
        assert re.search(r"^ok +destination +https://api.openai.com$", text, re.MULTILINE)

    def test_from_standard_input(self) -> None:
        initialise()
        assert "Accepted." in ok("explain", "-", stdin=ok("sign", MODELS))

    def test_another_method(self) -> None:
        initialise()
        text = explained(ok("sign", MODELS).strip(), "bad", "-X", "POST")
        assert "\nRefused: signature-mismatch\n" in text
        assert "\nLikely mistake: It was signed for the method GET." in text
        assert "\nCanonical request, as received:\n  | POST\n  | /\n" in text
        assert "\nString to sign" in text
        assert "\n  What to do: " in text

    def test_what_was_not_told_of_the_call_is_asked_for(self) -> None:
        initialise()
        signed = ok("sign", MODELS, "-X", "PUT").strip()
        assert "try -X PUT (it was judged as GET)" in explained(signed, "bad")
        assert "; try " not in explained(signed, "bad", "-X", "POST")
        signed = ok("sign", MODELS, "-X", "PUT", "-H", "X-A: b", "--body", "c").strip()
        text = explained(signed, "bad")
        for option in ("-X METHOD (", "-H 'x-a: ...'", "--body ("):
            assert option in text
        assert "try --body (it is signed)\n" in explained(
            signed, "bad", "-X", "PUT", "-H", "X-A: b"
        )
        assert explained(signed, "ok", "-X", "PUT", "-H", "X-A: b", "--body", "c")
        assert "; try " not in run("explain", "http://localhost/?X-Sw-Date=now").stdout

    def test_every_spelling_on_request(self) -> None:
        initialise("--allow", "*")
        url = ok("sign", "https://a.example/?c=(d)'").strip()
        assert explained(url, "ok", "--canonical").count("\nCanonical request, ") > 1

    def test_a_destination_that_is_not_allowed(self) -> None:
        initialise()
        url = run("sign", "https://evil.example/").stdout.strip()
        assert "\nRefused: destination-not-allowed\n" in explained(url, "bad")

    @pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost", "10.0.0.7", "gpu-box"])
    def test_a_private_destination(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch, host: str
    ) -> None:
        known = {"gpu-box": [ip_address("10.0.0.7")]}
        monkeypatch.setattr("swproxy.cli.resolver.resolve", lambda _: known)
        initialise("--allow", f"http://{host}:8000/v1/*")
        url = run("sign", f"http://{host}:8000/v1/models").stdout.strip()
        text = explained(url, "bad")
        assert "\nRefused: destination-not-public\n" in text
        opening = re.search(r"add (.*) to upstream.private_networks", text)
        assert opening
        (directory / "swproxy.toml").write_text(f"upstream.private_networks = [{opening[1]}]\n")
        assert "Accepted." in explained(url, "ok")

    def test_an_expired_url(self, directory: Path) -> None:
        initialise()
        (directory / "swproxy.toml").write_text("limits.expiry_seconds = 599")
        signed = run("sign", MODELS)
        assert "limits.expiry_seconds is 599" in signed.stderr
        assert "\nRefused: expiry-too-long\n" in explained(signed.stdout.strip(), "bad")

    def test_an_unknown_application(self) -> None:
        initialise()
        url = sign_url("nobody", "x", "http://h", MODELS, 60, "GET")
        assert "there is no application of this id" in explained(url, "bad")

    def test_without_a_secret(self) -> None:
        url = sign_url("nobody", "x", "http://h", MODELS, 60, "GET")
        explained(url, "unknown")
        explained(url, "ok", env={"SW_ID": "nobody", "SW_SECRET": "x"})
        assert "swproxy.toml" in refused("explain", url, "--config", "nope/swproxy.toml")

    @pytest.mark.parametrize("url", ["", "x", "https://edge.example/", "/?X-Sw-Proxy=%zz&X-Sw-"])
    def test_nonsense(self, url: str) -> None:
        assert "\nRefused: " in explained(url, "bad")

    def test_nothing_moves_the_terminal(self) -> None:
        url = sign_url("a", "b", "http://h", "https://x.example/\u202e", 60, "GET")
        text = explained(url + "%1b[2J", "bad", "-X", "A\x1b[2JB", "-H", "X: \x1b[0m")
        assert text.replace("\n", "").isprintable()

    def test_a_long_body_is_cut(self) -> None:
        env = {"SW_ID": "a", "SW_SECRET": "b"}
        url = sign_url("a", "wrong", "http://h", MODELS, 60, "POST", None, "x" * 9999)
        text = explained(url, "bad", "--body", "x" * 9999, env=env)
        assert "characters more" in text
        assert len(text) < 9999


class TestCheck:
    def test_a_good_configuration(self) -> None:
        initialise()
        assert ok("check", env=KEY) == (
            "swproxy.toml: no fault; applications: 1; listens on 127.0.0.1:3000\n"
        )

    def test_every_fault_on_a_line(self, directory: Path) -> None:
        initialise()
        (directory / "swproxy.toml").write_text("[limits]\nhead_byte = 3\nconnections = 'x'\n")
        result = run("check")
        unset = "${OPENAI_API_KEY} is not set in the environment"
        assert result.exit_code == 2
        assert result.stderr == ""
        assert result.stdout.splitlines() == [
            "swproxy.toml: limits.connections: expects a whole number, got text",
            'swproxy.toml: limits.head_byte: is not a key: did you mean "head_bytes"?',
            f"apps/chat.toml: headers.Authorization: {unset}",
        ]

    @pytest.mark.parametrize("host", ["127.0.0.1", "[fd00::1]", "localhost", "gpu-box"])
    def test_a_private_destination_is_a_fault_until_it_is_opened(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch, host: str
    ) -> None:
        known = {"gpu-box": [ip_address("10.0.0.7")], "localhost": [ip_address("127.0.0.1")]}
        monkeypatch.setattr("swproxy.cli.resolver.resolve", lambda _: known)
        said = ok("init", "--app", "chat", "--allow", f"http://{host}:8000/v1/*")
        result = run("check")
        assert (result.exit_code, result.stderr) == (2, "")
        assert result.stdout.startswith("apps/chat.toml: allow[0]: ")
        opening = re.search(r"add (.*) to upstream.private_networks\n", result.stdout)
        assert opening
        # Who has asked nobody does not know of names.
        assert ("upstream.private_networks" in said) == (host != "gpu-box")
        assert run("check", "--offline").exit_code == (0 if host == "gpu-box" else 2)
        (directory / "swproxy.toml").write_text(f"upstream.private_networks = [{opening[1]}]\n")
        assert "no fault" in ok("check")

    def test_names_are_looked_up_as_the_system_does(self) -> None:
        assert all(each.is_loopback for each in resolve(["localhost"])["localhost"])
        assert resolve(["no-such-name.invalid"]) == {}

    def test_warnings_are_no_faults(self, directory: Path) -> None:
        initialise()
        (directory / "apps" / "chat.toml").chmod(0o644)
        output = ok("check", env=KEY)
        assert output.startswith("warning: apps/chat.toml: holds a secret and is open to others")
        assert output.count("\n") == 2

    def test_the_configuration_is_named_by_the_environment(self, directory: Path) -> None:
        initialise("--config", "elsewhere.toml")
        assert "elsewhere.toml: no fault" in ok(
            "check", env=KEY | {"SWPROXY_CONFIG": "elsewhere.toml"}
        )

    def test_no_file(self) -> None:
        result = run("check")
        assert result.exit_code == 2
        assert result.stdout == "swproxy.toml: does not exist: `swproxy init` writes one\n"


class TestTerminal:
    """On a terminal, output is aligned and coloured."""

    @pytest.fixture(autouse=True)
    def terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("swproxy.cli.terminal.is_terminal", lambda _: True)

    @staticmethod
    def coloured(*arguments: str, env: Mapping[str, str] | None = None) -> str:
        return CliRunner().invoke(main, arguments, color=True, env=env).stdout

    def test_tables_have_a_head_and_columns(self) -> None:
        initialise()
        ok("app", "add", "a-much-longer-id", "--allow", "https://x.example/*")
        head, *rows = click.unstyle(self.coloured("app", "list")).splitlines()
        assert head.split() == ["ID", "SECRETS", "ALLOW", "FILE"]
        assert len({row.index("http") for row in rows} | {head.index("ALLOW")}) == 1
        assert len({row.index("apps/") for row in rows} | {head.index("FILE")}) == 1

    def test_faults_are_aligned(self, directory: Path) -> None:
        initialise()
        (directory / "swproxy.toml").write_text("x = 1\n[limits]\nconnections = 0")
        text = self.coloured("check")
        assert "\x1b[31m" in text
        lines = click.unstyle(text).splitlines()
        assert len({re.split(r"(?<=\S)  +", line)[2] for line in lines}) == 3
        assert len({line.index(re.split(r"  +", line)[2]) for line in lines}) == 1

    def test_colours_can_be_turned_off(self) -> None:
        initialise()
        assert "\x1b[" in self.coloured("app", "list")
        assert "\x1b[" not in self.coloured("app", "list", env={"NO_COLOR": "1"})


class TestProcess:
    """The installed program, as it is really run."""

    @staticmethod
    def program(
        *arguments: str, env: Mapping[str, str] | None = None, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "swproxy", *arguments],
            capture_output=True,
            text=True,
            input=stdin,
            env=os.environ | (env or {}),
            check=False,
            timeout=60,
        )

    def test_exit_codes_and_modes(self, directory: Path) -> None:
        old = os.umask(0)
        try:
            assert self.program("init").returncode == 0
        finally:
            os.umask(old)
        for file in directory.rglob("*.toml"):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert self.program("init").returncode == 2
        assert self.program("check").returncode == 2
        assert self.program("check", env=KEY).returncode == 0
        assert self.program("nonsense").returncode == 2

    def test_a_url_goes_from_one_to_the_other(self) -> None:
        initialise()
        signed = self.program("sign", MODELS)
        assert (signed.returncode, signed.stderr) == (0, "")
        assert self.program("explain", "-", stdin=signed.stdout).returncode == 0
        assert self.program("explain", "-", "-X", "PUT", stdin=signed.stdout).returncode == 1

    @pytest.mark.parametrize("configured", [True, False])
    def test_signing_loads_no_more_than_it_needs(self, *, configured: bool) -> None:
        env = {} if configured else {"SW_ID": "a", "SW_SECRET": "b"}
        if configured:
            initialise()
        code = (
            "import json, sys; from swproxy.cli.main import main;"
            f"main(['sign', {MODELS!r}], standalone_mode=False);"
            "print(json.dumps([*sys.modules]))"
        )
        result = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env=os.environ | env,
            check=True,
        )
        loaded = set(json.loads(result.stdout.splitlines()[-1]))
        assert not loaded & {"trio", "h11", "httpcore", "prometheus_client", "swproxy.proxy"}
        assert ("pydantic" in loaded) == configured

    def test_serve_tells_every_fault_of_its_configuration(self, directory: Path) -> None:
        (directory / "swproxy.toml").write_text("a = 1\nb = 2\n")
        result = self.program("serve")
        assert result.returncode == 2
        assert result.stderr.splitlines() == [
            "swproxy.toml: a: is not a key",
            "swproxy.toml: b: is not a key",
        ]
