# What runs a program and then its tests, as `python -c`, and talks with divvy on what were its input and output. The program is
# `__main__`, as if it had been run by itself, and sees nothing of this in its names.
#
# The tests come when the program's own statements are through, and the word that proves it when the tests are: neither is in a
# file, nor in this process before. What divvy sends is a length and so many bytes of tests, then a line; what it hears is a
# byte, another, and that line.
def run(main, exec=exec, compile=compile, int=int):
    import os, sys

    del main["run"]
    main["__file__"] = os.path.abspath("main.py")
    sys.argv[:] = ["main.py"]
    with open("main.py", "rb") as file:
        program = file.read()
    line, tell = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", 0)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    exec(compile(program, "main.py", "exec", 0, True), main)
    tell.write(b".")
    tests = line.read(int(line.readline()))
    exec(compile(tests, "tests.py", "exec", 0, True), main)
    tell.write(b".")
    tell.write(line.readline())


run(globals())
