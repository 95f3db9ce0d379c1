# Runs the real cloud-init's "schema" command, whose packages are in the folder that is the argument, on the documents in a
# JSON list on standard input, and prints its verdicts: a list of what it says, empty where it finds nothing wrong.
import contextlib
import io
import json
import os
import sys
import tempfile

sys.path.insert(0, sys.argv[1])
from cloudinit import settings
from cloudinit.cmd.main import main

verdicts = []
with tempfile.TemporaryDirectory() as folder:
    # It writes down what it knows of this machine, which should stay as it is.
    settings.DEFAULT_RUN_DIR = folder
    settings.CFG_BUILTIN["system_info"]["paths"].update(run_dir=folder, cloud_dir=folder)
    for document in json.load(sys.stdin):
        path = os.path.join(folder, "document")
        with open(path, "w") as f:
            f.write(document["Text"])
        args = ["cloud-init", "schema", "--config-file", path]
        if document["Network"]:
            args += ["--schema-type", "network-config"]
        said = io.StringIO()
        failed = False
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                failed = bool(main(args))
            except SystemExit as e:
                failed = bool(e.code)
                if isinstance(e.code, str):
                    print(e.code)
        verdicts.append({"Failed": failed, "Said": said.getvalue()})
json.dump(verdicts, sys.stdout)
