"""A training step and what it needs: the stream of documents, the combined loss, schedules, the trainer.

For the lab and for anybody's own loop; nothing in core imports it. Imports model and checkpoints.
"""

from transfuse.training.combiner import Combiner as Combiner
from transfuse.training.combiner import add_counts as add_counts
from transfuse.training.growing import Inherited as Inherited
from transfuse.training.growing import grow as grow
from transfuse.training.growing import inherit as inherit
from transfuse.training.guards import Diverged as Diverged
from transfuse.training.progress import Progress as Progress
from transfuse.training.ranks import ALONE as ALONE
from transfuse.training.ranks import Ranks as Ranks
from transfuse.training.saving import write_checkpoint as write_checkpoint
from transfuse.training.schedules import learning_rate as learning_rate
from transfuse.training.stream import Stream as Stream
from transfuse.training.trainer import Trainer as Trainer
