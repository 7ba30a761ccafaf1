"""What this plugin offers."""

from transfuse.config.parts import Part
from transfuse.registry.hooks import hookimpl

from transfuse_diffusion.ddim import DDIM, AncestralSettings, DDIMSettings, EulerSettings
from transfuse_diffusion.ddpm import DDPM, DDPMSettings
from transfuse_diffusion.flow import Flow, FlowSettings
from transfuse_diffusion.heun import Heun, HeunSettings


@hookimpl
def transfuse_objectives() -> list[Part]:
    return [
        Part("objective", "ddpm", DDPMSettings, DDPM, "DDPM: noise by a discrete schedule"),
        Part("objective", "flow", FlowSettings, Flow, "rectified flow: a straight path to noise"),
    ]


@hookimpl
def transfuse_samplers() -> list[Part]:
    return [
        Part("sampler", "ancestral", AncestralSettings, DDIM, "DDPM's own steps, with noise"),
        Part("sampler", "ddim", DDIMSettings, DDIM, "DDIM, deterministic or with noise"),
        Part("sampler", "euler", EulerSettings, DDIM, "the ODE, one evaluation a step"),
        Part("sampler", "heun", HeunSettings, Heun, "the ODE, two evaluations a step"),
    ]
