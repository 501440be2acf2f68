"""Names of the natural style: ordinary English names, which a pretrained model has met."""

import random

from arpo.world.names import NameParts

_FIRSTS = (
    "Alice Anna Arthur Beatrice Catherine Charles Charlotte Clara Daniel David Dorothy Edward Eleanor Elizabeth Emily Emma "
    "Ethan  Eva Florence Frances Frank Frederick George Grace Hannah Harold Harriet Helen Henry Hugh Irene Isaac Isabel "
    "Jack Jacob James  Jane Joan John Joseph Julia Karen Laura Leonard Lewis Louise Lucy Margaret Maria Martha Martin Mary "
    "Matthew Michael Miriam  Nancy Nathan Nicholas Nora Oliver Oscar Patrick Paul Peter Philip Rachel Ralph Rebecca Richard "
    "Robert Rosa Ruth Samuel Sarah  Simon Sophia Stephen Susan Theodore Thomas Ursula Victor Vincent Virginia Walter "
    "William"
)
_LASTS = (
    "Adams Allen Anderson Bailey Baker Barnes Bell Bennett Brown Butler Campbell Carpenter Carter Clark Coleman Collins "
    "Cook Cooper  Cox Crawford Davis Dixon Duncan Edwards Elliott Ellis Evans Fisher Fletcher Foster Fraser Gardner Gibson "
    "Gordon Graham Grant  Gray Griffin Hall Hamilton Harper Harris Harrison Hayes Henderson Hill Holmes Howard Hughes "
    "Hunter Jackson Jenkins Johnson  Jones Kelly Kennedy Lawson Lloyd Marshall Mason Miller Mitchell Moore Morgan Morris "
    "Murphy Murray Nelson Newman Owens Palmer  Parker Patterson Pearson Perry Peterson Phillips Porter Powell Price Reed "
    "Reynolds Richardson Roberts Robinson Rogers Ross  Russell Sanders Schneider Scott Shaw Simmons Spencer Stevens Stewart "
    "Sullivan Taylor Thompson Turner Walker Wallace Ward  Warren Watson Webb Wheeler White Williams Wilson Wright Young"
)
_COMPANY_TYPES = (
    "Mills Textiles Ceramics Furniture Foods Paper Steel Glass Tools Timber Motors Optics Chemicals Instruments Foundry "
    "Brewery  Leather Shipyard Printing Carpets Clocks Bicycles Engines Machines"
)
_CITY_STEMS = (
    "Alder Amber Barn Beck Black Bracken Brier Chester Clover Cran Dun East Elder Ever Fair Fern Glen Granite Green Haver "
    "Hazel Hunter Ivy Lark Maple Marble Mill Oak Olive Otter Pine Raven River Rock Rose Silver Stan Stone Summer Thorn "
    "Water West Winter Wren"
)
_CITY_ENDINGS = (
    "bridge brook bury cliff dale field ford gate ham haven hurst mere minster mouth port shore side well wick worth"
)
_REGION_HEADS = ("Central ", "East ", "Lower ", "North ", "South ", "Upper ", "West ")
_REGION_ENDINGS = (
    "Alder Arden Avon Calder Cairn Clyde Derwent Ennis Exmoor Galloway Humber Kendal Lennox Lindsey Lothian Medway Mersey "
    "Solway  Severn Tamar Trent Tyne Weald Yarrow"
)


def draw_natural_parts(rng: random.Random) -> NameParts:
    """Parts drawn from lists, as many as in the plain style."""
    return NameParts(
        firsts=rng.sample(_FIRSTS.split(), 40),
        lasts=rng.sample(_LASTS.split(), 60),
        company_types=rng.sample(_COMPANY_TYPES.split(), 12),
        city_stems=rng.sample(_CITY_STEMS.split(), 24),
        city_endings=rng.sample(_CITY_ENDINGS.split(), 16),
        region_heads=_REGION_HEADS,
        region_endings=rng.sample(_REGION_ENDINGS.split(), 8),
    )
