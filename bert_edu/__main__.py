"""`python -m bert_edu` is the program `bert-edu`."""

from .cli import main

if __name__ == "__main__":
    main()
