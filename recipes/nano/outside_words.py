"""Words that no lexicon of the bundle has, with how people say them: does the voice read them right?

Written by hand in the recogniser's phones, before anything was measured; some in two usual ways. Each is said in one
carrier sentence, and the judge must tell it from the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from judge import Judge

CARRIER = "please show me the {}"
SPOKEN = """
vlogger V L AA G ER, emoji IH M OW JH IY, cryptocurrency K R IH P T OW K ER AH N S IY, chatbot CH AE T B AA T,
phablet F AE B L AH T, brexit B R EH K S AH T, covid K OW V IH D, kombucha K AA M B UW CH AH, paywall P EY W AO L,
gamify G EY M AH F AY, unfriend AH N F R EH N D, crowdfunding K R AW D F AH N D IH NG,
staycation S T EY K EY SH AH N, influencer IH N F L UW AH N S ER, deepfake D IY P F EY K,
biohacking B AY OW HH AE K IH NG, geotag JH IY OW T AE G, ebook IY B UH K, hoverboard HH AH V ER B AO R D,
edamame EH D AH M AA M EY, matcha M AA CH AH, sriracha S R IH R AA CH AH, umami UW M AA M IY,
sudoku S UW D OW K UW, parkour P AA R K UH R, burkini B ER K IY N IY, jeggings JH EH G IH NG Z,
zoodle Z UW D AH L, frenemy F R EH N AH M IY, bromance B R OW M AE N S, cosplay K AA Z P L EY,
steampunk S T IY M P AH NG K, netbook N EH T B UH K, ransomware R AE N S AH M W EH R, botnet B AA T N EH T,
nanobot N AE N OW B AA T, exoplanet EH K S OW P L AE N AH T, gigafactory G IH G AH F AE K T ER IY,
glamping G L AE M P IH NG, doomscroll D UW M S K R OW L, upcycle AH P S AY K AH L, freegan F R IY G AH N,
flexitarian F L EH K S AH T EH R IY AH N, microplastic M AY K R OW P L AE S T IH K, geofence JH IY OW F EH N S,
telehealth T EH L AH HH EH L TH, fintech F IH N T EH K, robocall R OW B OW K AO L, earbud IH R B AH D,
touchpad T AH CH P AE D, dashcam D AE SH K AE M, petabyte P EH T AH B AY T, hangry HH AE NG G R IY,
spork S P AO R K
"""
WORDS = {
    word: phones for word, _, phones in (row.strip().partition(" ") for row in SPOKEN.split(",")) if word
}


def words_read_right(
    say: Callable[[str], tuple[np.ndarray, int]], words: Iterable[str] = WORDS
) -> list[tuple[str, str]]:
    """(word, what the judge heard) for each, said in the carrier."""
    judge = Judge()
    rules = f"please show me the ({' | '.join(WORDS)})"
    judge.learn("outside", f"#JSGF V1.0;\ngrammar outside;\npublic <spoken> = {rules};\n", WORDS)
    heard = [(word, judge.read(*say(CARRIER.format(word)), "outside")) for word in words]
    return [(word, text.split()[-1] if text else "") for word, text in heard]
