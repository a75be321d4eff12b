#!/usr/bin/env bash
# The quality study of the multistage paper on CIFAR-10, small enough for one CPU core: its tables 3 (architectures), 4
# (where the time line is cut) and 7 (how many stages), at equal training time, equal steps or equal work.
#
#   recipes/multistage-study.sh FOLDER [VARIANT ...]     trains and evaluates into FOLDER; all variants where none is named
#   recipes/multistage-study.sh list                     names them
#
# A run that was stopped is taken up where it was: give the same FOLDER. multistage-study.py then makes FOLDER/results.csv,
# a line for each variant and each evaluated model (steps, 10^12 multiply-accumulates of training, losses, distances),
# plots, and a table: how much training each variant needed to come as near as the unified network's last model. The
# learning rate falls over the whole run, so models on the way are worse than a run that ends there.
#
# Settings are variables of the environment:
#   TRAIN, TEST   CIFAR-10's parquet files (default: cifar10-train.parquet, cifar10-test.parquet)
#   MINUTES       of one core that the unified network learns for (60)
#   EQUAL         time: every variant learns for MINUTES, its number of steps follows from seconds a step, measured first;
#                 work: as many multiply-accumulates as the unified network; steps: as many steps (time)
#   START         nothing, or a model that all start from: an embedded name or a folder of a unified network (nothing)
#   POINTS        models that are kept and evaluated on the way, and scorings of early stopping (10)
#   PATIENCE      scorings without a lower held-out loss after which a separate network stops (2)
#   AT            models that are evaluated, as shares of the steps, such as "0.5 0.9 1" (all POINTS)
#   SAMPLES       pictures of each evaluation (1000), SETTING its solver and steps (dpm++2m:20)
#   STEPS         of every variant, in place of MINUTES: for a trial
#   OVERRIDES     further KEY=VALUE for headrace train, such as "data.limit=500" for a trial
#   EVALUATE      further options for headrace evaluate, such as "--data-samples 500"
#   HEADRACE, PYTHON   commands (headrace, python)
set -euo pipefail

TRAIN=${TRAIN:-cifar10-train.parquet} TEST=${TEST:-cifar10-test.parquet}
MINUTES=${MINUTES:-60} EQUAL=${EQUAL:-time} START=${START:-nothing} STEPS=${STEPS:-} AT=${AT:-}
POINTS=${POINTS:-10} PATIENCE=${PATIENCE:-2} SAMPLES=${SAMPLES:-1000} SETTING=${SETTING:-dpm++2m:20}
OVERRIDES=${OVERRIDES:-} EVALUATE=${EVALUATE:---data-samples 10000}
HEADRACE=${HEADRACE:-headrace} PYTHON=${PYTHON:-python}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} ACCELERATE_USE_CPU=true
recipes=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PROBED=80 # steps that are timed; the first make kernels for shapes that come again

names="unified separate separate-es separate-tp separate-es-tp multistage multistage-16
timestep snr gradient gradient-small two-stages four-stages five-stages"

# Recipe and changes of a variant, the recipe first. Widths behind an encoder of 32 are in the paper's proportions (192,
# 128 and 16 behind 128); for other numbers of stages equation 23 gives 47 and 15; 48, 39, 20 and 8; 48, 43, 32, 9 and 8,
# here the nearest that norm and attention can divide. A decoder 8 wide is narrower than a head of attention.
variant() {
    local stages=phases.diffusion.stages
    local tailored="$stages.decoders=[48,32,8] $stages.attention=[true,true,false]"
    local early="$stages.patience=$PATIENCE"
    case $1 in
    unified) echo cifar10-ddpm-cpu.toml ;;
    # Table 3. ES: early stopping, TP: tailored parameters.
    separate) echo cifar10-separate-cpu.toml ;;
    separate-es) echo cifar10-separate-cpu.toml "$early" ;;
    separate-tp) echo cifar10-separate-cpu.toml "$tailored" ;;
    separate-es-tp) echo cifar10-separate-cpu.toml "$tailored" "$early" ;;
    multistage) echo cifar10-multistage-cpu.toml ;; # cut by the optimal denoiser: 0.442 and 0.63
    # A last decoder of twice the width: 8 of 32 channels is the paper's share, and few channels in all.
    multistage-16) echo cifar10-multistage-cpu.toml "$stages.decoders=[48,32,16]" ;;
    # Table 4, with the paper's boundaries; gradient-small has those of the embedded model's gradients.
    timestep) echo cifar10-multistage-cpu.toml "$stages.boundaries=[0.33,0.67]" ;;
    snr) echo cifar10-multistage-cpu.toml "$stages.boundaries=[0.348,0.709]" ;;
    gradient) echo cifar10-multistage-cpu.toml "$stages.boundaries=[0.36,0.66]" ;;
    gradient-small) echo cifar10-multistage-cpu.toml "$stages.boundaries=[0.17,0.541]" ;;
    # Table 7; one stage is unified, three are multistage.
    two-stages)
        echo cifar10-multistage-cpu.toml "$stages.boundaries=[0.476]" "$stages.decoders=[48,16]" \
            "$stages.attention=[true,true]"
        ;;
    four-stages)
        echo cifar10-multistage-cpu.toml "$stages.boundaries=[0.376,0.526,0.726]" "$stages.decoders=[48,32,16,8]" \
            "$stages.attention=[true,true,true,false]"
        ;;
    five-stages)
        echo cifar10-multistage-cpu.toml "$stages.boundaries=[0.376,0.476,0.626,0.776]" \
            "$stages.decoders=[48,48,32,8,8]" "$stages.attention=[true,true,true,false,false]"
        ;;
    *) echo "there is no variant $1: choose from" $names >&2 && exit 2 ;;
    esac
}

train() { # VARIANT RUN-FOLDER KEY=VALUE ...
    local name=$1 run=$2 recipe changes
    shift 2
    read -r recipe changes <<<"$(variant "$name")"
    # shellcheck disable=SC2086  # lists of words
    $HEADRACE train "$recipes/$recipe" $changes name="$name" data.path="$TRAIN" data.held_out="$TEST" \
        phases.diffusion.loop.max_minutes=1000000.0 ${initial:+"phases.diffusion.initial=$initial"} "$@" \
        $OVERRIDES --out "$run" --resume
}

# Seconds of a step (the median: others may use the machine) and its 10^12 multiply-accumulates, measured once.
probe() { # VARIANT
    local file=$out/$1/step.txt
    if [ ! -e "$file" ]; then
        train "$1" "$out/$1/probe" phases.diffusion.loop.steps=$PROBED phases.diffusion.sample_steps=1
        "$PYTHON" - "$out/$1/probe/diffusion/log.csv" >"$file.part" <<'PYTHON'
import csv, statistics, sys
rows = [row for row in csv.DictReader(open(sys.argv[1])) if row["seconds"]]
times = [float(row["seconds"]) for row in rows]
steps = [later - earlier for earlier, later in zip(times, times[1:])]
print(statistics.median(steps[len(steps) // 4 :]), float(rows[-1]["training_tmac"]) / float(rows[-1]["step"]))
PYTHON
        mv "$file.part" "$file"
        rm -r "$out/$1/probe"
    fi
    cat "$file"
}

steps_of() { # VARIANT; kept, so that a run that is taken up goes to the same end
    local file=$out/$1/steps.txt seconds work unified_seconds unified_work
    if [ ! -e "$file" ]; then
        mkdir -p "$out/$1"
        if [ -n "$STEPS" ]; then
            echo "$STEPS" >"$file"
        else
            read -r unified_seconds unified_work < <(probe unified)
            read -r seconds work < <(probe "$1")
            case $EQUAL in
            time) ratio="60 * $MINUTES / $seconds" ;;
            work) ratio="60 * $MINUTES / $unified_seconds * $unified_work / $work" ;;
            steps) ratio="60 * $MINUTES / $unified_seconds" ;;
            *) echo "EQUAL=$EQUAL is not one of time, work, steps" >&2 && exit 2 ;;
            esac
            "$PYTHON" -c "print(max($POINTS, round($ratio)))" >"$file"
        fi
    fi
    cat "$file"
}

models_of() { # VARIANT; those to evaluate, the last first
    local folder=$out/$1/run/diffusion/models
    find "$folder" -maxdepth 1 -name 'step-*' | "$PYTHON" -c '
import sys
steps = {int(line.rsplit("-", 1)[1]): line.strip() for line in sys.stdin}
shares = sys.argv[1].split() or [step / max(steps) for step in steps]
chosen = {min(steps, key=lambda step: abs(step - float(share) * max(steps))) for share in shares}
print(*(steps[step] for step in sorted(chosen, reverse=True)), sep="\n")' "$AT"
}

evaluate() { # VARIANT
    local model step report
    for model in $(models_of "$1"); do
        step=${model##*step-}
        report=$out/$1/reports/$step.json
        [ -e "$report" ] && continue
        # shellcheck disable=SC2086
        $HEADRACE evaluate "$model" --data "$TRAIN" --setting "$SETTING" -n "$SAMPLES" --extractor cifar10-classifier \
            $EVALUATE --work "$out/$1/pictures/$step" --out "$report"
    done
}

[ $# -ge 1 ] || { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" && exit 2; }
[ "$1" = list ] && printf '%s\n' $names && exit
out=$1
shift
chosen=${*:-$names}
for name in $chosen; do variant "$name" >/dev/null; done
initial=
if [ "$START" != nothing ]; then
    initial=$("$PYTHON" -c 'import sys; from headrace.models.pipelines.folder import find; print(find(sys.argv[1]))' "$START")
fi
mkdir -p "$out"
for name in $chosen; do
    steps=$(steps_of "$name" | tail -n 1)
    every=$(((steps + POINTS - 1) / POINTS))
    if [ ! -e "$out/$name/run/$name" ]; then
        train "$name" "$out/$name/run" phases.diffusion.loop.steps="$steps" phases.diffusion.loop.sample_every=$every \
            phases.diffusion.loop.checkpoint_every=$every phases.diffusion.loop.keep_models=true \
            phases.diffusion.sample_steps=20
    fi
    evaluate "$name"
done
# shellcheck disable=SC2086  # a list of words
"$PYTHON" "$recipes/multistage-study.py" "$out" $names
