"""The `hf-mixup` command: a file a subcommand, with its flags; `entry` calls them.

torch and transformers load inside the subcommands, so that help is quick.
"""

from hf_mixup.cli.entry import main as main
