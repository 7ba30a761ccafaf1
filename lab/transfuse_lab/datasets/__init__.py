"""Where documents come from: `--data` by name, a folder of your own, or a packed store."""

from transfuse_lab.datasets.opening import data_section as data_section
from transfuse_lab.datasets.opening import open_data as open_data
