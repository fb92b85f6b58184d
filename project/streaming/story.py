"""What is told. Any other work that takes a while and yields something on the way would do."""

STORY = """\
The ferry to the island leaves at half past six, when the harbour is still the colour of slate and the gulls have \
not made up their minds about the day. Marta has the first watch. She pours coffee into a dented cup, puts a second \
one beside it for the engineer, and writes the weather into the log with a pencil that she has owned for eleven \
years.

Half an hour out the fog comes, as the forecast said it would, and takes away first the church, then the breakwater, \
and then the bow of her own ship. She slows down. There is a bell on every buoy along this channel, each with a note \
of its own, and she has crossed so often that she knows them like the stairs at home: the low one by the sandbank, \
two high ones where the current turns, and then a long quiet in which you simply have to trust your arithmetic.

On the car deck a boy is asking his father what happens if the engine stops. Then we drift a little, the father \
says, and they start it again, and we carry on from where we are. And if it stops again? Then they start it again. \
The boy thinks about this. It seems to him a very good plan, and he falls asleep against the warm side of the bakery \
van.

At ten past eight a note comes out of the white that is neither high nor low. It is the harbour bell. Marta writes \
down the time, finishes the cold coffee, and brings the ferry in so softly that nobody wakes."""

#: The pieces that are sent, one event each: every word with the space after it.
WORDS = STORY.replace("\n\n", " \n\n").split(" ")
