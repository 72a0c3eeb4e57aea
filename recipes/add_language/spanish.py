"""Spanish: the same closed domain as German's, by the phones that the voice has already."""

# ruff: noqa: RUF001 - IPA
from __future__ import annotations

from functools import partial

from language import Forms, Language, closed_questions

VARIANTS = "m1 m3 m5 m7 f1 f2 f4 Alex Andy Annie Gene Lee klatt2 Mike".split()
ONES = (
    "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciséis diecisiete "
    "dieciocho diecinueve veinte veintiuno veintidós veintitrés veinticuatro veinticinco veintiséis veintisiete "
    "veintiocho veintinueve"
).split()
TENS = "treinta cuarenta cincuenta sesenta setenta ochenta noventa".split()
DAYS = "lunes martes miércoles jueves viernes sábado domingo".split()
MONTHS = "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre".split()
OPPOSITES = (
    "caliente frío, grande pequeño, viejo joven, rápido lento, claro oscuro, bueno malo, negro blanco, mojado seco, "
    "duro blando, rico pobre, fuerte débil, vacío lleno, temprano tarde, alto bajo, pesado ligero, arriba abajo, "
    "izquierda derecha, dentro fuera"
)
COLORS = (
    "la hierba verde, el cielo azul, la nieve blanco, la sangre rojo, el plátano amarillo, el carbón negro, "
    "el limón amarillo, el tomate rojo, el chocolate marrón, el sol amarillo"
)
CAPITALS = (
    "francia parís, inglaterra londres, italia roma, portugal lisboa, alemania berlín, japón tokio, "
    "polonia varsovia"
)
TALK = (
    ("hola", "hola"), ("buenos días", "buenos días"), ("buenas tardes", "buenas tardes"),
    ("buenas noches", "buenas noches"), ("cómo estás", "estoy bien gracias"),
    ("quién eres", "soy nano una voz muy pequeña"), ("cómo te llamas", "me llamo nano"), ("gracias", "de nada"),
    ("adiós", "adiós"), ("puedes oírme", "sí puedo oírte"), ("cuántos días tiene una semana", "siete"),
    ("cuántas horas tiene un día", "veinticuatro"),
)  # fmt: skip
OUTSIDE = {
    "quién": "el maestro|la doctora|mi hermano|nuestro gato|nadie|todo el mundo|pedro|una mujer",
    "hace": "encuentra|abre|compra|mira|pinta|busca|trae|olvida|enseña|lleva",
    "qué": "la ventana|las llaves|un libro|el puente|su abrigo|una botella|el cuadro|la carta",
    "cuándo": "hoy|ayer|en el jardín|por la calle|sin luz|junto al río|detrás de la casa|en invierno",
}
PHONES_OF = {
    "eɪ": "ey", "aɪ": "ay", "aʊ": "aw", "oɪ": "oy", "tʃ": "ch", "dʒ": "jh", "a": "aa", "e": "eh", "ɛ": "eh",
    "i": "iy", "ɪ": "ih",
    "o": "oo", "u": "uw", "ʊ": "uh", "b": "b", "β": "b", "d": "d", "ð": "dh", "f": "f", "ɡ": "g", "g": "g", "ɣ": "g",
    "j": "y", "ʝ": "y", "k": "k", "l": "l", "ʎ": "l y", "m": "m", "n": "n", "ɲ": "n y", "ŋ": "ng", "p": "p", "r": "rr",
    "ɾ": "r", "s": "s", "z": "z", "t": "t", "θ": "th", "v": "v", "w": "w", "x": "ach",
}  # fmt: skip
MEANINGS = (
    "cero zero, uno one, dos two, tres three, cuatro four, cinco five, seis six, siete seven, ocho eight, nueve nine, "
    "diez ten, once eleven, doce twelve, trece thirteen, catorce fourteen, quince fifteen, dieciséis sixteen, "
    "diecisiete seventeen, dieciocho eighteen, diecinueve nineteen, veinte twenty, treinta thirty, cuarenta forty, "
    "cincuenta fifty, sesenta sixty, setenta seventy, ochenta eighty, noventa ninety, más plus, menos minus, "
    "por times, es is, lunes monday, martes tuesday, miércoles wednesday, jueves thursday, viernes friday, "
    "sábado saturday, "
    "domingo sunday, enero january, febrero february, marzo march, abril april, mayo may, junio june, julio july, "
    "agosto august, septiembre september, octubre october, noviembre november, diciembre december, después after, "
    "antes before, día day, mes month, viene comes, caliente hot, frío cold, grande big, pequeño small, viejo old, "
    "joven young, bueno good, malo bad, negro black, blanco white, rojo red, verde green, azul blue, amarillo yellow, "
    "marrón brown, hola hello, color color, capital capital, contrario opposite"
)


def number(n: int) -> str:
    """The word of 0 to 99; three words from 31 on ("treinta y uno")."""
    if n < 30:
        return ONES[n]
    ten = TENS[n // 10 - 3]
    return ten if n % 10 == 0 else f"{ten} y {ONES[n % 10]}"


FORMS = Forms(
    operations=("más", "menos", "por"),
    sums=("cuánto es {}", "cuántos son {}"),
    next_number="qué viene después de {}",
    calendars=(
        (DAYS, "qué día viene después del {}", "qué día viene antes del {}"),
        (MONTHS, "qué mes viene después de {}", "qué mes viene antes de {}"),
    ),
    opposites=("cuál es el contrario de {}", "el contrario de {}"),
    color="de qué color es {}",
    capital="cuál es la capital de {}",
)
ITEMS = partial(closed_questions, FORMS, number, TALK, OPPOSITES, COLORS, CAPITALS)

SPANISH = Language(
    name="spanish", speaker="es", voices=tuple(f"{base}+{v}" for v in VARIANTS for base in ("es", "es-419")),
    new_voices=("es+linda", "es-419+max", "es+m8"), number=number, items=ITEMS, outside_words=OUTSIDE,
    phones_of=PHONES_OF, meaning_pairs=MEANINGS,
)  # fmt: skip
