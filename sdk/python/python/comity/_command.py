"""The `comity` command."""

import signal
import sys


def main():
    # Python's own handler only notes a Ctrl-C for later; the command is to end at once, or to end what is under way by itself.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from . import _comity

    sys.stdout.flush()
    sys.exit(_comity.command(["comity", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
