"""What a data set found where its data lie is said once, when a command opens it."""

from transfuse.datasets import DataSet

from transfuse_lab.progress import say


def report_account(data: DataSet) -> None:
    """One line, where the data set has anything to say: which files it uses, and which it does not."""
    if found := data.account():
        say(f"data {data.name}: {found}")
