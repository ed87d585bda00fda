"""Opens what it is told to, one path a line, and says what became of it: a process for `tests.fuzz.opening`."""

import sys
from pathlib import Path


def main():
    from suite.bundles import programs
    from suite.bundles.bundle import Bundle
    from suite.errors import InputError

    print("ready", flush=True)
    for line in sys.stdin:
        path = Path(line.rstrip("\n"))
        try:
            if path.is_dir():
                opened = Bundle.open(path, cache=False).programs
                for program in opened.values():
                    program.warm((1,))
            else:
                programs.read(path.read_bytes(), "program", "?")
            said = "opened"
        except InputError as error:
            said = "refused " + repr(str(error))
        except Exception as error:
            # What the compiler says of an opened bundle is told by the trial as it is.
            said = ("refused " if type(error).__name__ == "JaxRuntimeError" else "raised ") + repr(error)
        print(said.encode("ascii", "replace").decode(), flush=True)


if __name__ == "__main__":
    main()
