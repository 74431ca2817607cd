import sys
from PIL import Image
name,w=sys.argv[1],sys.argv[2]
im=Image.open(f"/tmp/mine/v-{name}-{w}.png"); H=im.height; step=int(sys.argv[3]) if len(sys.argv)>3 else 2400
for i,y in enumerate(range(0,H,step)):
    im.crop((0,y,im.width,min(H,y+step))).save(f"/tmp/mine/c-{name}-{w}-{i}.png")
print(H, (H+step-1)//step)
