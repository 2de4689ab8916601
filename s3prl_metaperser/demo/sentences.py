"""What the demo corpora read, in the languages of their voices: everyday sentences without an emotion of their own."""

# ruff: noqa: RUF001  (Greek letters are Greek letters)

from __future__ import annotations

from s3prl_metaperser.demo.script import SENTENCES

ENGLISH = SENTENCES[:12]
GREEK = (
    "Το τρένο φεύγει στις εννέα.",
    "Η αδελφή μου τηλεφώνησε σήμερα.",
    "Υπάρχει ένα γράμμα στο τραπέζι.",
    "Τα κλειδιά είναι δίπλα στην πόρτα.",
    "Το μαγαζί κλείνει στις οκτώ.",
    "Περιμένει στον σταθμό.",
)
FRENCH = (
    "Le train part à neuf heures.",
    "Ma sœur a appelé ce matin.",
    "Il y a une lettre sur la table.",
    "La réunion est remise à lundi.",
    "Le bus s'arrête près de la mairie.",
    "Les clés sont à côté de la porte.",
)
GERMAN = (
    "Der Zug fährt um neun ab.",
    "Meine Schwester hat heute angerufen.",
    "Auf dem Tisch liegt ein Brief.",
    "Die Sitzung ist jetzt am Montag.",
    "Der Bus hält vor der Bücherei.",
    "Die Schlüssel liegen neben der Tür.",
)
ITALIAN = (
    "Il treno parte alle nove.",
    "Mia sorella ha chiamato stamattina.",
    "C'è una lettera sul tavolo.",
    "La riunione è stata spostata a lunedì.",
    "Le chiavi sono vicino alla porta.",
    "Il negozio chiude tra mezz'ora.",
)
PERSIAN = (
    "قطار ساعت نه حرکت می‌کند.",
    "خواهرم امروز صبح زنگ زد.",
    "یک نامه روی میز است.",
    "کلیدها کنار در هستند.",
    "مغازه نیم ساعت دیگر می‌بندد.",
    "او در ایستگاه منتظر است.",
)
