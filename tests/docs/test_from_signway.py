"""docs/from-signway.md: an application of Signway's goes on with its id and secret."""

from pathlib import Path

import signway_sdk
from click.testing import CliRunner

from swproxy import sign_url
from swproxy.cli.main import main
from tests.support.pages import block


def test_a_signway_application_goes_on_with_its_id_and_secret(tmp_path: Path) -> None:
    (tmp_path / "apps").mkdir()
    (tmp_path / "apps/my-app.toml").write_text(block("my-app.toml"))
    (tmp_path / "swproxy.toml").touch()
    environ = {"SW_SECRET": "secret-of-signway", "OPENAI_TOKEN": "sk-1"}
    url = "https://api.openai.com/v1/models"
    arguments = ("my-app", environ["SW_SECRET"], "http://localhost:3000", url, 60, "GET")
    for signed in (signway_sdk.sign_url(*arguments), sign_url(*arguments)):
        command = ["explain", signed, "--config", str(tmp_path / "swproxy.toml")]
        done = CliRunner().invoke(main, command, env=environ)
        assert done.exit_code == 0, done.output
