import numpy as np
def contact_sheet(clip):
    return clip.image(0)
