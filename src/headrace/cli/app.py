"""The tree of commands."""

from __future__ import annotations

import typer

from headrace.cli import (
    bench,
    calibrate,
    calibrate_guidance,
    calibrate_latency,
    calibrate_scale_shift,
    calibrate_stages,
    compare,
    demo,
    evaluate,
    fuse,
    generate,
    load,
    models,
    plan,
    serve,
    simulate,
    study,
    train,
    tune,
)

app = typer.Typer(
    name="headrace",
    help="More images a second from diffusion models: the same pictures, batched step by step.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command(
    "generate",
    epilog='Example: headrace generate "red apple" --solver dpm++2m --guidance 4 --seed 7 --n 4 --out apples',
)(generate.generate)
app.command("models", epilog="Example: headrace models --dir ~/models")(models.models)
app.command("demo", epilog="Example: headrace demo --out outputs/demo")(demo.demo)
app.add_typer(plan.app, name="plan")
app.add_typer(calibrate.app, name="calibrate")
calibrate.app.command("scale-shift", epilog=calibrate_scale_shift.EPILOG)(calibrate_scale_shift.scale_shift)
calibrate.app.command("guidance", epilog=calibrate_guidance.EPILOG)(calibrate_guidance.guidance)
calibrate.app.command("latency", epilog=calibrate_latency.EPILOG)(calibrate_latency.latency)
calibrate.app.command("stages", epilog=calibrate_stages.EPILOG)(calibrate_stages.stages)
app.command("train", epilog=train.EPILOG)(train.train)
app.command("evaluate", epilog=evaluate.EPILOG)(evaluate.evaluate)
app.command("compare", epilog=compare.EPILOG)(compare.compare)
app.command("fuse", epilog=fuse.EPILOG)(fuse.fuse)
app.add_typer(study.app, name="study")
app.command("simulate", epilog=simulate.EPILOG)(simulate.simulate)
app.command("load", epilog=load.EPILOG)(load.load)
app.command("serve", epilog=serve.EPILOG)(serve.serve)
app.command("tune", epilog=tune.EPILOG)(tune.tune)
app.command("bench", epilog="Example: headrace bench throughput --quick")(bench.bench)
