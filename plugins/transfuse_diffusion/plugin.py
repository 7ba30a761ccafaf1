"""What this plugin offers."""

from transfuse.plugin import Part, hookimpl

from transfuse_diffusion.ddim import DDIM, AncestralSettings, DDIMSettings, EulerSettings
from transfuse_diffusion.ddpm import DDPM, DDPMSettings
from transfuse_diffusion.flow import Flow, FlowSettings
from transfuse_diffusion.heun import Heun, HeunSettings


@hookimpl
def transfuse_objectives() -> list[Part]:
    return [
        Part("ddpm", DDPMSettings, DDPM, "DDPM: noise by a discrete schedule"),
        Part("flow", FlowSettings, Flow, "rectified flow: a straight path to noise"),
    ]


@hookimpl
def transfuse_samplers() -> list[Part]:
    return [
        Part("ancestral", AncestralSettings, DDIM, "DDPM's own steps, with noise"),
        Part("ddim", DDIMSettings, DDIM, "DDIM, deterministic or with noise"),
        Part("euler", EulerSettings, DDIM, "the ODE, one evaluation a step"),
        Part("heun", HeunSettings, Heun, "the ODE, two evaluations a step"),
    ]
