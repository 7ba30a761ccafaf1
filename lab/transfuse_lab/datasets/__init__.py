"""Where documents come from: data sets by name, a folder of your own, a packed store.

Imports core alone; everything above opens data sets here, by `open_data` or `open_section`.
"""

from transfuse_lab.datasets.opening import data_section as data_section
from transfuse_lab.datasets.opening import open_data as open_data
from transfuse_lab.datasets.opening import open_section as open_section
