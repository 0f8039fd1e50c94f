"""Units of what school exercises ask for: names in English and Chinese, their dimension and their size in it."""

import re
from fractions import Fraction
from typing import NamedTuple


class Unit(NamedTuple):
    """dimension: what is measured; units of one dimension convert. size: in that dimension's own unit."""

    dimension: str
    size: Fraction


_ROWS: dict[str, dict[str, str]] = {
    "length": {  # metres
        "1": "m meter meters metre metres 米",
        "1000": "km kilometer kilometers kilometre kilometres 千米 公里",
        "1/10": "dm decimeter decimeters decimetre decimetres 分米",
        "1/100": "cm centimeter centimeters centimetre centimetres 厘米 公分",
        "1/1000": "mm millimeter millimeters millimetre millimetres 毫米",
        "254/10000": "inch inches in",
        "3048/10000": "ft foot feet",
        "9144/10000": "yd yard yards",
        "1609344/1000": "mi mile miles",
    },
    "area": {  # square metres
        "1": "平方米 m2 sqm",
        "10000": "公顷 hectare hectares ha",
        "1000000": "平方千米 平方公里 km2",
        "1/100": "平方分米 dm2",
        "1/10000": "平方厘米 cm2",
        "1/1000000": "平方毫米 mm2",
        "4046856/1000": "acre acres",
        "64516/100000000": "in2",
        "9290304/100000000": "ft2",
    },
    "volume": {  # litres
        "1": "L liter liters litre litres 升 立方分米 dm3",
        "1/1000": "mL ml milliliter milliliters millilitre millilitres 毫升 立方厘米 cm3",
        "1000": "立方米 m3",
        "16387064/1000000000": "in3",
        "28316846592/1000000000": "ft3",
    },
    "mass": {  # grams
        "1": "g gram grams 克",
        "1000": "kg kilogram kilograms kilo kilos 千克 公斤",
        "500": "斤",
        "1000000": "ton tons tonne tonnes 吨",
        "1/1000": "mg milligram milligrams 毫克",
        "45359237/100000": "lb lbs pound pounds",
        "45359237/1600000": "oz ounce ounces",
    },
    "time": {  # seconds
        "1": "s sec secs second seconds 秒 秒钟 秒間 초",
        "60": "min mins minute minutes 分钟 分鐘 分間 분",
        "3600": "h hr hrs hour hours 小时 小時 钟头 時間 시간",
        "86400": "day days 天",
        "604800": "week weeks 周 星期",
        "1/1000": "ms millisecond milliseconds 毫秒",
    },
    "months": {"1": "month months 个月", "12": "year years 年"},
    "speed": {  # metres a second
        "1": "m/s mps 米/秒",
        "1/60": "m/min 米/分 米/分钟",
        "1000/3600": "km/h kmh kph 千米/时 千米/小时 公里/时 公里/小时",
        "1000/60": "km/min 千米/分 千米/分钟",
        "1000": "km/s 千米/秒",
        "1609344/3600000": "mph",
    },
    "dollars": {"1": "$ dollar dollars usd", "1/100": "¢ cent cents"},
    "yuan": {"1": "¥ 元 块 yuan rmb cny 人民币", "1/10": "角 毛", "1/100": "分"},
    "euros": {"1": "€ euro euros eur"},
    "sterling": {"1": "£ gbp"},
    "rupees": {"1": "₹ rupee rupees"},
    "yen": {"1": "円 yen"},
    "won": {"1": "₩ 원"},
    "angle": {"1": "° degree degrees deg"},
    "radians": {"1": "rad radian radians 弧度"},
    "celsius": {"1": "°C 摄氏度"},
    "fahrenheit": {"1": "°F 华氏度"},
}
UNITS = {
    name: Unit(dimension, Fraction(size))
    for dimension, rows in _ROWS.items()
    for size, names in rows.items()
    for name in names.split()
}
"""The units that are known, by name. A word that is not here, such as `apples`, is no part of an answer's value."""
SIGNS = "$¥€£₹₩"
"""Signs of a currency that may stand in front of a number."""

_CURRENCY = re.compile(rf"\s*([-+]?)\s*(?:US|HK|NT|CA|AU)?([{re.escape(SIGNS)}])\s*|\s*([-+]?)(USD|RMB|CNY|EUR|GBP)\s+")
_POWER = re.compile(r"\s*(?:\^\s*\{?\s*([23])\s*\}?|([23]))$")
_WRITTEN_POWER = re.compile(r"^(sq|square|cubic|cu)\.?\s+")


def unit(words: str) -> Unit | None:
    """The unit that these words name, such as cm, square meters, m^2; None if they name none that is known."""
    words = " ".join(words.split())
    power, found = 1, _POWER.search(words)
    if found:
        power, words = int(found[1] or found[2]), words[: found.start()]
    elif found := _WRITTEN_POWER.match(words.lower()):
        power, words = (2 if found[1].startswith("sq") else 3), words[found.end() :]
    words = words.strip().rstrip(".")
    if power > 1:
        base = UNITS.get(words) or UNITS.get(words.lower())
        if base is None or base.dimension != "length":
            return None
        return Unit("area", base.size**2) if power == 2 else Unit("volume", base.size**3 * 1000)
    words = re.sub(r"\s*(?:per|/)\s*", "/", words)
    words = {"meters/second": "m/s", "miles/hour": "mph", "kilometers/hour": "km/h", "m/sec": "m/s"}.get(words, words)
    return UNITS.get(words) or (UNITS.get(words.lower()) if len(words) > 1 else None)


def without_currency(text: str) -> tuple[str, Unit | None]:
    """A text without the sign of a currency in front of its number, and the currency."""
    found = _CURRENCY.match(text)
    if not found:
        return text, None
    return (found[1] or found[3] or "") + text[found.end() :], unit(found[2] or found[4])
