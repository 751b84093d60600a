#!/usr/bin/env bash
# Train a robust network and prune it: benchmarks/robust_networks.sh NETWORK SEED IMAGES FOLDER
#
#   benchmarks/robust_networks.sh resnet20 0 cifar10-jpeg benchmarks/data/robust
#
# IMAGES is a folder with train/CLASS/*.jpg; networks go to FOLDER. After Ctrl-C the same command goes on.
set -euo pipefail
network=$1 seed=$2 images=$3 folder=$4
name=$folder/$network-seed-$seed
options=(--data "folder:$images")
thinice train --architecture "$network" --normalization cifar10 "${options[@]}" --recipe fast --seed "$seed" \
  --set channels_last=true -o "$name.pt" --store "$name.duckdb" --no-figures
thinice prune "$name.pt" --sparsity 0.9 --sparsity 0.95 --finetune finetune-fast,epochs=5,channels_last=true \
  "${options[@]}" -o "$name-pruned.pt"
