"""Write a HeadHunter list (`# path`, then `x1 y1 x2 y2 flag`) from the annotations of a head dataset.

jaxdet lists scuthead SCUT_HEAD --split train --out heads.txt          Pascal VOC xml, Part A and Part B
jaxdet lists crowdhuman annotation_train.odgt --images Images --out heads.txt
jaxdet lists crohd HT21/train --out heads.txt                          gt.txt and seqinfo.ini of MOTChallenge sequences

The command prints counts, and every entry that is left out with its file and line.
"""

from __future__ import annotations

import argparse

from jaxdet.cli.images import add_image_arguments

KINDS = ("scuthead", "crowdhuman", "crohd")
_OPTIONS = (("split", "scuthead"), ("images", "crowdhuman"), ("visibility", "crohd"), ("origin", "crohd"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=KINDS, help="the format of the annotations")
    parser.add_argument("source", metavar="SOURCE", help="folder of the dataset; for crowdhuman the odgt file")
    parser.add_argument("--out", required=True, metavar="LIST", help="the list to write")
    parser.add_argument("--base", metavar="DIR", help="folder that paths are relative to (default: the folder of LIST)")
    parser.add_argument(
        "--split", metavar="NAME", help="scuthead: a list in ImageSets/Main (default: every annotation)"
    )
    parser.add_argument("--images", metavar="DIR", help="crowdhuman: folder of the images")
    parser.add_argument(
        "--visibility",
        type=float,
        metavar="V",
        help="crohd: heads with at most this visibility, 0 to 1, are ignored (default: 0)",
    )
    parser.add_argument(
        "--origin",
        type=float,
        metavar="X",
        help="crohd: the coordinate of an image's edge (default: MOTChallenge's 1)",
    )
    add_image_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from jaxdet.data.formats.lists import convert_crohd, convert_crowd_human, convert_scut_head

    base = Path(args.out).parent if args.base is None else args.base
    for option, kind in _OPTIONS:
        if getattr(args, option) is not None and args.kind != kind:
            raise ValueError(f"--{option} is an option of {kind}, not of {args.kind}")
    crohd = {name: getattr(args, name) for name in ("visibility", "origin") if getattr(args, name) is not None}
    if args.kind == "scuthead":
        conversion = convert_scut_head(args.source, args.split, base=base)
    elif args.kind == "crohd":
        conversion = convert_crohd(args.source, base=base, **crohd)
    elif args.images is None:
        raise ValueError("CrowdHuman's odgt file does not name the folder of its images: give it with --images")
    else:
        conversion = convert_crowd_human(args.source, args.images, base=base)
    conversion.write(args.out)
    for line in conversion.report():
        print(line)
    print(f"list        {args.out}, paths relative to {conversion.base}")
    return 0
